//! Who may call a handler.

use parlour_wire::{Code, header::Fault};

use crate::identity::{KeySet, PeerKey};

/// Who may call a handler. It is asked at every call, so a change of a [`KeySet`] counts from the next call on.
///
/// ```
/// use parlour_net::{Access, Handlers, Identity, KeySet};
///
/// let operators = KeySet::from([Identity::generate()?.key()]);
/// let mut handlers = Handlers::new();
/// handlers.on_action("land", |_cx, ()| async {}).allow(Access::Keys(operators.clone()));
/// // Somebody joins later.
/// operators.insert(Identity::generate()?.key());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Nobody.
    #[default]
    Deny,
    /// Whoever has a link, with a key or without.
    Anyone,
    /// Peers that have proven who they are: a key in the handshake, and the fleet's secret if this end asks for one.
    Authenticated,
    /// Peers that have proven who they are, with a key of the set.
    Keys(KeySet),
}

impl Access {
    /// Whether a peer with this key, authenticated or not, may call.
    ///
    /// # Errors
    /// The fault that answers the call: `not_authenticated` if the peer could change that by proving who it is, else `forbidden`.
    pub fn check(&self, key: Option<&PeerKey>, authenticated: bool) -> Result<(), Fault> {
        match self {
            Self::Anyone => Ok(()),
            Self::Deny => Err(Fault::new(Code::FORBIDDEN, "nobody may call this")),
            Self::Authenticated | Self::Keys(_) if !authenticated => Err(unauthenticated()),
            Self::Authenticated => Ok(()),
            Self::Keys(keys) if key.is_some_and(|key| keys.contains(key)) => Ok(()),
            Self::Keys(_) => Err(Fault::new(Code::FORBIDDEN, "this key may not call this")),
        }
    }
}

/// What a peer is told that may prove later who it is.
pub(crate) fn unauthenticated() -> Fault {
    Fault::new(Code::NOT_AUTHENTICATED, "only who has proven who it is may call this")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_lets_in_whom_it_names() {
        let [member, other] = [1, 2].map(|n| PeerKey([n; 32]));
        let keys = KeySet::from([member]);
        let code = |access: &Access, key: Option<&PeerKey>, authenticated| access.check(key, authenticated).err().map(|f| f.code);
        for (key, authenticated) in [(None, false), (Some(&member), false), (Some(&member), true), (None, true)] {
            assert_eq!(code(&Access::Deny, key, authenticated), Some(Code::FORBIDDEN));
            assert_eq!(code(&Access::Anyone, key, authenticated), None);
            let expected = (!authenticated).then_some(Code::NOT_AUTHENTICATED);
            assert_eq!(code(&Access::Authenticated, key, authenticated), expected);
        }
        let rule = Access::Keys(keys.clone());
        assert_eq!(code(&rule, Some(&member), true), None);
        assert_eq!(code(&rule, Some(&member), false), Some(Code::NOT_AUTHENTICATED));
        assert_eq!(code(&rule, Some(&other), true), Some(Code::FORBIDDEN));
        assert_eq!(code(&rule, None, true), Some(Code::FORBIDDEN));
        keys.remove(&member);
        assert_eq!(code(&rule, Some(&member), true), Some(Code::FORBIDDEN));
    }
}
