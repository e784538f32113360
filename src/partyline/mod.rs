//! The operators' faces; for now the console on the terminal, which stands for a channel.

mod console;

pub use console::{CHANNEL, Console, HANDLE, NETWORK};
