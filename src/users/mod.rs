//! People: who somebody is, and what they may. It reads no disk and speaks to no server.

mod book;
mod claims;
mod eggdrop;
mod elevation;
mod flags;
mod mirror;
mod password;
mod standing;
mod totp;
mod user;

pub use book::{Book, PARTYLINE, Settings};
pub use claims::{Claims, Seen};
pub use eggdrop::{EggBot, EggPerson, Userfile, UserfileFault};
pub use elevation::{Elevation, Presence, Sudo};
pub use flags::{FlagFault, FlagMask, FlagSet, Section};
pub use mirror::{Changed, Mirror, PEOPLE_MAX, USERFILE_MAX};
pub use password::{PASSWORD_MIN, PasswordFault, PasswordHash};
pub use standing::Standing;
pub use totp::{Totp, TotpFault};
pub use user::{COMMENT_MAX, Given, HANDLE_MAX, User, UserFault};
