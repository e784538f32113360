//! The event sources, one file or folder a kind. Each brings its rows for [`KINDS`] and a [`Source`].
//!
//! [`Source`]: masterchief_contract::Source

pub mod time;

use masterchief_contract::KindSpec;

/// The kinds of this crate, a list for each source.
pub static KINDS: &[&[KindSpec]] = &[time::KINDS];
