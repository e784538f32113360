//! Which parameters are secrets by their names: they are typed unseen, and shown to nobody.

use std::sync::LazyLock;

use regex::Regex;

static SECRET: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new("(?i)passw|passphrase|secret|token|credential|api[-_]?key|private[-_]?key|^pin$|^otp$").ok()
});

/// Whether a parameter of this name is one. Without the pattern all are.
pub(super) fn looks_secret(name: &str) -> bool {
    SECRET.as_ref().is_none_or(|pattern| pattern.is_match(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_by_its_name() {
        for name in ["password", "DB_PASSWD", "deploy_token", "api-key", "apikey", "client_secret", "otp"] {
            assert!(looks_secret(name), "{name}");
        }
        for name in ["deploy_tag", "environment", "passes", "key", "replicas", "spinner"] {
            assert!(!looks_secret(name), "{name}");
        }
    }
}
