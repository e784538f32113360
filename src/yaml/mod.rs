//! YAML, and TOML where a file is called so, read strictly: every part knows where it stands, and every fault says so.

mod map;
mod quick;
mod read;
mod toml;
mod tree;

pub use map::{Entry, Map};
pub use read::read;
pub use tree::{ConfigFault, Node, SPARE, Secrets, Spot, What, fill_with};
