//! The one table of errors: wire code, stable name, whose fault it is, whether trying again helps, exit status.

use std::fmt;

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The caller asked for something that cannot be.
    Caller,
    /// The peer broke the protocol.
    Peer,
    /// The program that answered is at fault, or out of a resource.
    Ours,
    /// Something between the two.
    Network,
}

/// An error code on the wire. Unknown values survive decoding and print as a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u16);

/// What the table says about a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// The stable name, as printed in JSON.
    pub name: &'static str,
    /// Whose fault it is.
    pub blame: Blame,
    /// Whether the same call may succeed later without anyone changing anything.
    pub retry: bool,
    /// Exit status of the command line (CLI contract).
    pub exit: u8,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $constant:ident = $value:literal, $name:literal, $blame:ident, $retry:literal, $exit:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $constant: Code = Code($value);)*

            /// The table row of this code, if it is a known one.
            #[must_use]
            pub const fn traits(self) -> Option<Traits> {
                match self.0 {
                    $($value => Some(Traits { name: $name, blame: Blame::$blame, retry: $retry, exit: $exit }),)*
                    _ => None,
                }
            }

            /// Every known code, in table order.
            pub const ALL: &'static [Code] = &[$(Code::$constant),*];
        }
    };
}

codes! {
    /// The words of a command or the fields of a request are off.
    USAGE = 1, "usage", Caller, false, 2;
    /// A request whose content cannot be decoded, or breaks a rule that its sender could know.
    BAD_REQUEST = 2, "bad_request", Caller, false, 70;
    /// No handler of that name.
    UNKNOWN_REQUEST = 3, "unknown_request", Caller, false, 70;
    /// A frame that cannot be decoded, or not in this state.
    BAD_FRAME = 4, "bad_frame", Peer, false, 70;
    /// The peer lacks a capability that this needs.
    INCOMPATIBLE = 5, "incompatible", Peer, false, 5;
    /// No such user.
    USER_NOT_FOUND = 10, "user_not_found", Caller, false, 3;
    /// No such conversation.
    CONVERSATION_NOT_FOUND = 11, "conversation_not_found", Caller, false, 3;
    /// No such message.
    MESSAGE_NOT_FOUND = 12, "message_not_found", Caller, false, 3;
    /// No such device.
    DEVICE_NOT_FOUND = 13, "device_not_found", Caller, false, 3;
    /// The profile has no account, or the named file or profile is not there.
    PROFILE_NOT_FOUND = 14, "profile_not_found", Caller, false, 3;
    /// A user without any device that could receive.
    NO_DEVICES = 15, "no_devices", Caller, true, 3;
    /// No such file, or no such root.
    FILE_NOT_FOUND = 16, "file_not_found", Caller, false, 3;
    /// The conversation was there and has ended. Its id is not used again.
    CONVERSATION_ENDED = 17, "conversation_ended", Caller, false, 3;
    /// Wrong password, or no such user: the two are not told apart.
    WRONG_PASSWORD = 20, "wrong_password", Caller, false, 4;
    /// Registration is closed here.
    REGISTRATION_CLOSED = 21, "registration_closed", Caller, false, 4;
    /// Registration needs an invitation.
    INVITE_REQUIRED = 22, "invite_required", Caller, false, 4;
    /// The invitation is not known here.
    INVITE_UNKNOWN = 23, "invite_unknown", Caller, false, 4;
    /// The invitation has been used as often as it allows.
    INVITE_USED_UP = 24, "invite_used_up", Caller, false, 4;
    /// The invitation has expired.
    INVITE_EXPIRED = 25, "invite_expired", Caller, false, 4;
    /// This needs an authenticated link.
    NOT_AUTHENTICATED = 26, "not_authenticated", Caller, false, 4;
    /// Authenticated, but not allowed.
    FORBIDDEN = 27, "forbidden", Caller, false, 4;
    /// Not a member of the conversation.
    NOT_MEMBER = 28, "not_member", Caller, false, 4;
    /// The device has been revoked or logged out.
    DEVICE_REVOKED = 29, "device_revoked", Caller, false, 4;
    /// The server's certificate is not the one that was pinned.
    CERTIFICATE_CHANGED = 30, "certificate_changed", Peer, false, 4;
    /// Another process uses the profile.
    PROFILE_IN_USE = 31, "profile_in_use", Caller, true, 4;
    /// The contact is blocked.
    BLOCKED = 32, "blocked", Caller, false, 4;
    /// The contact's key is not the one that was known.
    KEY_CHANGED = 33, "key_changed", Peer, false, 4;
    /// A folder or file that cannot be written.
    READ_ONLY = 34, "read_only", Caller, false, 4;
    /// The profile cannot be opened with this passphrase.
    WRONG_PASSPHRASE = 35, "wrong_passphrase", Caller, false, 4;
    /// The account has been disabled by an administrator.
    DISABLED = 36, "disabled", Caller, false, 4;
    /// A name of a file that leads out of its root, that some systems would misread, or that belongs to a folder.
    PATH_REFUSED = 37, "path_refused", Caller, false, 4;
    /// The profile on disk cannot be read: damaged, or its parts are not of one profile.
    PROFILE_DAMAGED = 38, "profile_damaged", Caller, false, 4;
    /// No connection to the server.
    UNREACHABLE = 40, "unreachable", Network, true, 5;
    /// The deadline has passed.
    TIMED_OUT = 41, "timed_out", Network, true, 5;
    /// The link ended before the answer.
    LINK_LOST = 42, "link_lost", Network, true, 5;
    /// The server is stopping; another try reaches its successor.
    STOPPING = 43, "stopping", Ours, true, 5;
    /// The server has no capacity for this at the moment.
    OVERLOADED = 44, "overloaded", Ours, true, 5;
    /// The server's store cannot take writes (full or broken disk).
    STORE_UNAVAILABLE = 45, "store_unavailable", Ours, true, 5;
    /// The request was cancelled.
    CANCELLED = 46, "cancelled", Caller, false, 5;
    /// A file cannot be read or written, for a reason of the operating system of whoever says so.
    FILE_UNAVAILABLE = 47, "file_unavailable", Ours, true, 5;
    /// The name is taken.
    NAME_TAKEN = 50, "name_taken", Caller, false, 6;
    /// The thing exists already.
    ALREADY_EXISTS = 51, "already_exists", Caller, false, 6;
    /// A file of this name is there, and was not to be replaced.
    FILE_EXISTS = 52, "file_exists", Caller, false, 6;
    /// Another transfer of the same file is under way.
    FILE_BUSY = 53, "file_busy", Caller, true, 6;
    /// The message or file is larger than allowed.
    TOO_LARGE = 60, "too_large", Caller, false, 7;
    /// Too many tries; wait.
    RATE_LIMITED = 61, "rate_limited", Caller, true, 7;
    /// A quota is used up.
    QUOTA = 62, "quota", Caller, false, 7;
    /// The disk of whoever says so is full.
    DISK_FULL = 63, "disk_full", Caller, true, 7;
    /// A commit whose parent epoch is no longer current, or a message whose epoch is too old.
    STALE_EPOCH = 70, "stale_epoch", Caller, true, 70;
    /// A device list that does not follow the current one.
    STALE_LIST = 71, "stale_list", Caller, true, 70;
    /// The other side broke a promise that can be proved, such as two receipts for one epoch.
    SERVER_MISBEHAVED = 72, "server_misbehaved", Peer, false, 4;
    /// A file arrived with other bytes than its sender's.
    HASH_MISMATCH = 73, "hash_mismatch", Peer, true, 4;
    /// A file is longer or shorter than its sender announced.
    SIZE_MISMATCH = 74, "size_mismatch", Peer, false, 4;
    /// A file was changed while it was sent.
    SOURCE_CHANGED = 75, "source_changed", Ours, true, 4;
    /// A bug.
    INTERNAL = 99, "internal", Ours, false, 70;
}

impl Code {
    /// The stable name; `"unknown"` for a code that this version does not know.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.traits() {
            Some(traits) => traits.name,
            None => "unknown",
        }
    }

    /// Whether the same call may succeed later. An unknown code is taken as permanent.
    #[must_use]
    pub const fn retry(self) -> bool {
        matches!(self.traits(), Some(Traits { retry: true, .. }))
    }

    /// The exit status of the command line; 70 for an unknown code.
    #[must_use]
    pub const fn exit(self) -> u8 {
        match self.traits() {
            Some(traits) => traits.exit,
            None => 70,
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({} {})", self.0, self.name())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.traits() {
            Some(traits) => f.write_str(traits.name),
            None => write!(f, "unknown code {}", self.0),
        }
    }
}

impl<C> minicbor::Encode<C> for Code {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.u16(self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Code {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.u16().map(Code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_unique_and_exits_are_in_the_contract() {
        let mut names: Vec<_> = Code::ALL.iter().map(|c| c.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert!([2, 3, 4, 5, 6, 7, 70].contains(&code.exit()), "{code:?}");
        }
    }

    #[test]
    fn an_unknown_code_survives_and_is_permanent() {
        let code = Code(4711);
        let back: Code = crate::decode(&crate::encode(&code)).expect("a number is a code");
        assert_eq!(back, code);
        assert_eq!((code.name(), code.retry(), code.exit()), ("unknown", false, 70));
    }
}
