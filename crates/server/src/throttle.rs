//! How often somebody may try: token buckets in bounded memory.
//!
//! A bucket is one number: when it will be full again (the generic cell rate algorithm). Buckets that are full are forgotten;
//! if too many are not, those that are nearest to full go first, so a flood of fresh names or addresses cannot wash away the
//! bucket of somebody under attack.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Mutex, PoisonError},
};

use parlour_wire::{AccountId, DeviceId};

/// So many at once, then one in each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many tries a full bucket holds; at least one.
    pub burst: u32,
    /// How long it takes until another try is there, in milliseconds.
    pub every_ms: u64,
}

impl Rate {
    /// So many at once, then one in each interval.
    #[must_use]
    pub const fn new(burst: u32, every_ms: u64) -> Self {
        Self { burst, every_ms }
    }

    /// As many as anybody likes.
    pub const UNBOUNDED: Self = Self::new(1, 0);
}

/// The throttles of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThrottleConfig {
    /// Password tries for one name, known or not.
    pub login_per_name: Rate,
    /// Password tries from one address.
    pub login_per_address: Rate,
    /// Registrations begun from one address.
    pub register_per_address: Rate,
    /// Look-ups of users and groups by one account, names that it gives to groups included.
    pub lookups_per_account: Rate,
    /// Claims of key packages by one account.
    pub claims_per_account: Rate,
    /// Entries that one account adds to logs, of which a member who never reads keeps every one; and device lists that it changes, of which
    /// everybody whom it knows is told.
    pub entries_per_account: Rate,
    /// What these weigh, in KiB: messages, commits and welcomes.
    pub entry_kib_per_account: Rate,
    /// Members that one account puts into conversations which it makes; nobody is asked whether they want to be one.
    pub members_per_account: Rate,
    /// Cursors that one device moves: each is a look into the store by the one writer that everybody shares.
    pub cursors_per_device: Rate,
    /// Signals of one device.
    pub signals_per_device: Rate,
    /// Blobs that one account begins; each is a write.
    pub blobs_per_account: Rate,
    /// Backups that one account replaces; each is a write of thousands of rows.
    pub backups_per_account: Rate,
    /// How many buckets each throttle remembers.
    pub buckets: usize,
    /// Whether loopback addresses are exempt from the throttles per address: behind a reverse proxy everybody has one.
    pub exempt_loopback: bool,
}

impl Default for ThrottleConfig {
    fn default() -> Self {
        Self {
            // Ten mistypings a person forgives; 96 guesses a day after that are no attack on a password.
            login_per_name: Rate::new(10, 15 * 60 * 1000),
            // An office behind one address on a Monday morning.
            login_per_address: Rate::new(100, 10 * 1000),
            register_per_address: Rate::new(30, 60 * 1000),
            // Opening a large group asks for every member once.
            lookups_per_account: Rate::new(2000, 500),
            claims_per_account: Rate::new(2000, 500),
            // Somebody comes back with a long queue, or a program answers a crowd; then more than all devices of a person write.
            entries_per_account: Rate::new(10_000, 10),
            // 256 MiB at once, then about one in a second.
            entry_kib_per_account: Rate::new(256 * 1024, 1),
            // Two of the largest groups at once.
            members_per_account: Rate::new(10_000, 1000),
            // A device that comes back to many conversations moves them all; then one that reads as fast as it can.
            cursors_per_device: Rate::new(50_000, 1),
            // Somebody types in several conversations at once.
            signals_per_device: Rate::new(20, 250),
            // A backup of a long history.
            blobs_per_account: Rate::new(5000, 100),
            // A device writes one in a quarter of an hour, or when somebody asks for it.
            backups_per_account: Rate::new(60, 10 * 1000),
            buckets: 1 << 16,
            exempt_loopback: true,
        }
    }
}

/// One throttle over keys of one kind.
#[derive(Debug)]
pub struct Throttle<K> {
    rate: Rate,
    buckets: usize,
    /// When each bucket is full again, Unix milliseconds.
    full_at: Mutex<BTreeMap<K, u64>>,
}

impl<K: Ord + Clone> Throttle<K> {
    /// A throttle that remembers at most so many buckets.
    #[must_use]
    pub fn new(rate: Rate, buckets: usize) -> Self {
        Self { rate, buckets: buckets.max(2), full_at: Mutex::default() }
    }

    /// Takes a try.
    ///
    /// # Errors
    /// After how many milliseconds there will be one.
    pub fn take(&self, key: &K, now_ms: u64) -> Result<(), u64> {
        self.take_many(key, 1, now_ms)
    }

    /// Takes several tries or none. More than a full bucket holds cost a full bucket.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_many(&self, key: &K, tries: usize, now_ms: u64) -> Result<(), u64> {
        let Rate { burst, every_ms } = self.rate;
        let all = every_ms.saturating_mul(u64::from(burst.max(1)));
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not make anybody wait longer than an empty bucket does.
        let latest = now_ms.saturating_add(all);
        let current = full_at.get(key).copied().unwrap_or(0).clamp(now_ms, latest);
        let tries = u64::try_from(tries).unwrap_or(u64::MAX).min(u64::from(burst.max(1)));
        let next = current.saturating_add(every_ms.saturating_mul(tries));
        if next > latest {
            return Err(next - latest);
        }
        if full_at.len() >= self.buckets && !full_at.contains_key(key) {
            forget(&mut full_at, now_ms);
        }
        full_at.insert(key.clone(), next);
        Ok(())
    }

    /// Fills the bucket of a key: whoever it is has shown that they may.
    pub fn refill(&self, key: &K) {
        self.full_at.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// Drops the buckets that are full, and at least half of all, the fullest first.
fn forget<K: Ord>(full_at: &mut BTreeMap<K, u64>, now_ms: u64) {
    let mut times: Vec<u64> = full_at.values().copied().collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let limit = now_ms.max(*median);
    full_at.retain(|_, time| *time > limit);
}

/// What counts as one address: an IPv4 address, or the /64 that one IPv6 customer has for himself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressKey(IpAddr);

impl AddressKey {
    /// The key of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) if !v6.is_loopback() => Self(IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64))),
            other => Self(other),
        }
    }

    fn is_loopback(self) -> bool {
        self.0.is_loopback()
    }
}

/// The throttles of a service, together.
#[derive(Debug)]
pub(crate) struct Throttles {
    login_names: Throttle<String>,
    login_devices: Throttle<[u8; 16]>,
    login_addresses: Throttle<AddressKey>,
    register_addresses: Throttle<AddressKey>,
    pub(crate) lookups: Throttle<[u8; 32]>,
    pub(crate) claims: Throttle<[u8; 32]>,
    entries: Throttle<[u8; 32]>,
    entry_kib: Throttle<[u8; 32]>,
    pub(crate) members: Throttle<[u8; 32]>,
    pub(crate) cursors: Throttle<[u8; 16]>,
    pub(crate) signals: Throttle<[u8; 16]>,
    pub(crate) blobs: Throttle<[u8; 32]>,
    pub(crate) backups: Throttle<[u8; 32]>,
    exempt_loopback: bool,
}

impl Throttles {
    pub(crate) fn new(config: &ThrottleConfig) -> Self {
        Self {
            login_names: Throttle::new(config.login_per_name, config.buckets),
            login_devices: Throttle::new(config.login_per_name, config.buckets),
            login_addresses: Throttle::new(config.login_per_address, config.buckets),
            register_addresses: Throttle::new(config.register_per_address, config.buckets),
            lookups: Throttle::new(config.lookups_per_account, config.buckets),
            claims: Throttle::new(config.claims_per_account, config.buckets),
            entries: Throttle::new(config.entries_per_account, config.buckets),
            entry_kib: Throttle::new(config.entry_kib_per_account, config.buckets),
            members: Throttle::new(config.members_per_account, config.buckets),
            cursors: Throttle::new(config.cursors_per_device, config.buckets),
            signals: Throttle::new(config.signals_per_device, config.buckets),
            blobs: Throttle::new(config.blobs_per_account, config.buckets),
            backups: Throttle::new(config.backups_per_account, config.buckets),
            exempt_loopback: config.exempt_loopback,
        }
    }

    fn exempt(&self, address: AddressKey) -> bool {
        self.exempt_loopback && address.is_loopback()
    }

    /// A password try, before it is known whose. The address pays first: who has used up his address cannot use up other
    /// people's names.
    pub(crate) fn login_from(&self, address: AddressKey, now_ms: u64) -> Result<(), u64> {
        if self.exempt(address) { Ok(()) } else { self.login_addresses.take(&address, now_ms) }
    }

    /// A password try for a name. One from a device of the account counts for the device: guesses by others do not keep those
    /// who are in from changing their password.
    pub(crate) fn login(&self, name: &str, own: Option<DeviceId>, now_ms: u64) -> Result<(), u64> {
        match own {
            Some(device) => self.login_devices.take(&device.0, now_ms),
            None => self.login_names.take(&name.to_owned(), now_ms),
        }
    }

    /// An entry of so many bytes, by an account. One that is too heavy at the moment has been counted among the entries all the same.
    pub(crate) fn entry(&self, account: &AccountId, bytes: usize, now_ms: u64) -> Result<(), u64> {
        self.entries.take(&account.0, now_ms)?;
        self.entry_kib.take_many(&account.0, bytes.div_ceil(1024), now_ms)
    }

    pub(crate) fn logged_in(&self, name: &str) {
        self.login_names.refill(&name.to_owned());
    }

    pub(crate) fn register(&self, address: AddressKey, now_ms: u64) -> Result<(), u64> {
        if self.exempt(address) { Ok(()) } else { self.register_addresses.take(&address, now_ms) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_one_each_interval() {
        let throttle = Throttle::new(Rate::new(3, 1000), 10);
        for _ in 0..3 {
            assert_eq!(throttle.take(&1, NOW), Ok(()));
        }
        assert_eq!(throttle.take(&1, NOW), Err(1000));
        assert_eq!(throttle.take(&1, NOW + 400), Err(600), "a refused try costs nothing");
        assert_eq!(throttle.take(&2, NOW), Ok(()), "others have buckets of their own");
        assert_eq!(throttle.take(&1, NOW + 1000), Ok(()));
        assert_eq!(throttle.take(&1, NOW + 1000), Err(1000));
        for _ in 0..3 {
            assert_eq!(throttle.take(&1, NOW + 100_000), Ok(()));
        }
        assert_eq!(throttle.take(&1, NOW + 100_000), Err(1000), "a bucket holds no more than its burst");
    }

    #[test]
    fn a_clock_set_back_makes_nobody_wait_longer_than_an_empty_bucket() {
        let throttle = Throttle::new(Rate::new(2, 1000), 10);
        assert_eq!(throttle.take(&1, NOW), Ok(()));
        assert_eq!(throttle.take(&1, NOW - 1_000_000), Err(1000));
    }

    #[test]
    fn a_refilled_bucket_is_full() {
        let throttle = Throttle::new(Rate::new(1, 1000), 10);
        assert_eq!(throttle.take(&1, NOW), Ok(()));
        throttle.refill(&1);
        assert_eq!(throttle.take(&1, NOW), Ok(()));
    }

    #[test]
    fn several_tries_are_taken_whole_or_not_at_all() {
        let throttle = Throttle::new(Rate::new(5, 1000), 10);
        assert_eq!(throttle.take_many(&1, 4, NOW), Ok(()));
        assert_eq!(throttle.take_many(&1, 2, NOW), Err(1000));
        assert_eq!(throttle.take_many(&1, 1, NOW), Ok(()));
        assert_eq!(throttle.take_many(&1, 1, NOW), Err(1000));
        assert_eq!(throttle.take_many(&2, usize::MAX, NOW), Ok(()), "more than a bucket costs a bucket");
        assert_eq!(throttle.take_many(&2, 1, NOW), Err(1000));
    }

    #[test]
    fn an_unbounded_rate_refuses_nothing() {
        let throttle = Throttle::new(Rate::UNBOUNDED, 10);
        assert!((0..1000).all(|_| throttle.take_many(&1, 1000, NOW).is_ok()));
    }

    #[test]
    fn a_flood_of_keys_stays_bounded_and_does_not_free_a_victim() {
        let throttle = Throttle::new(Rate::new(10, 1000), 64);
        while throttle.take(&0, NOW).is_ok() {}
        for key in 1..10_000 {
            assert_eq!(throttle.take(&key, NOW), Ok(()));
            assert!(throttle.full_at.lock().unwrap().len() <= 64);
        }
        assert_eq!(throttle.take(&0, NOW), Err(1000));
    }

    #[test]
    fn one_address_is_a_v4_address_or_a_v6_network() {
        let key = |text: &str| AddressKey::of(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2:3::4"), key("2001:db8:1:2:ffff::"));
        assert_ne!(key("2001:db8:1:2::"), key("2001:db8:1:3::"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
        assert_ne!(key("10.0.0.1"), key("10.0.0.2"));
        assert!(key("::1").is_loopback() && key("127.0.0.9").is_loopback());
    }

    #[test]
    fn an_address_that_has_used_up_its_tries_uses_up_no_names() {
        let config = ThrottleConfig {
            login_per_name: Rate::new(2, 1000),
            login_per_address: Rate::new(1, 1000),
            ..ThrottleConfig::default()
        };
        let throttles = Throttles::new(&config);
        let login =
            |name, address, now_ms| throttles.login_from(address, now_ms).and_then(|()| throttles.login(name, None, now_ms));
        let (bad, good) = (AddressKey::of([10, 0, 0, 1].into()), AddressKey::of([10, 0, 0, 2].into()));
        assert_eq!(login("alice", bad, NOW), Ok(()));
        for _ in 0..5 {
            assert_eq!(login("alice", bad, NOW), Err(1000));
        }
        assert_eq!(login("alice", good, NOW), Ok(()));
        let local = AddressKey::of([127, 0, 0, 1].into());
        assert_eq!(login("bob", local, NOW), Ok(()));
        assert_eq!(login("bob", local, NOW), Ok(()), "loopback is not an address that tells people apart");
        assert_eq!(login("bob", local, NOW), Err(1000), "a name still is a name");
    }
}
