//! Finding each other on a local network, as machines without socket, clock or task.
//!
//! - [`Announcer`]: a station tells every while that it is there, and answers who asks.
//! - [`Finder`]: looks for stations of a service; believes what is signed by a key it accepts and cannot be a recording.
//! - [`Rivals`]: a station that notices others of its service, and decides who stays.
//!
//! **Recordings.** A signature proves who said something, not when. So a finder draws a nonce for every query, and believes an
//! announcement in two cases only: it echoes a nonce of the last seconds; or it continues what has been confirmed so: the same
//! start of the same station, a higher sequence number, and no address that has not been confirmed. Everything else that is
//! signed well leads to a query and is otherwise ignored; an old announcement, or one that is passed on from another address,
//! therefore has no effect. What remains is an attacker who sits on the path and passes everything on at once: the address is
//! then its own, and the link that is opened there fails, because a link proves the key.
//!
//! **Floods.** Everything is bounded: signature checks a second, with a budget of their own for answers to our queries, which who
//! has not heard the query cannot use up; queries a second; answers a second; stations in the table. One address can use up neither
//! the checks nor the table for the others. Whoever forges hundreds can use up the checks, but then a sample of what is left is drawn by
//! address, and the finder asks again: a true answer is heard after a few queries. Of a station whose answers are played from many
//! addresses those are kept that it signs or is heard at first.

mod addresses;
mod announcer;
mod budget;
mod dice;
mod finder;
mod lottery;
mod rivals;
mod window;

pub use announcer::{Announcer, AnnouncerInput, Profile, Say, To};
pub use finder::{Accept, Asks, Counts, Finder, FinderConfig, FinderInput, FinderOutput, Found, Ignored};
pub use rivals::{Policy, RivalNews, Rivals, RivalsOutput, Verdict};
