//! The secrets that are known, and the look of others: hidden in whatever leaves the process as words.

use std::borrow::Cow;

use masterchief_contract::Secret;
use regex::bytes::Regex;

use super::{Masker, hide_shapes};

/// What is never said.
#[derive(Debug, Default)]
pub struct Known {
    masker: Masker,
    /// Whether there is anything to hide; `None` where nothing is known that is secret.
    finder: Option<Regex>,
}

impl Known {
    /// These secrets.
    pub fn new(secrets: &[Secret]) -> Known {
        let masker = Masker::new(secrets);
        Known { finder: masker.finder(), masker }
    }

    /// The same words without them, and without what looks like one.
    pub fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &self.finder {
            Some(finder) if finder.is_match(text.as_bytes()) => {
                Cow::Owned(hide_shapes(&self.masker.hide(text)).into_owned())
            }
            _ => hide_shapes(text),
        }
    }
}
