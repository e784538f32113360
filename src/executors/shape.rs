//! Hides what looks like a secret, whoever's it is: keys and tokens of well-known shapes, and values behind names such as
//! `password=`. What it hides is at least as long as what stands there instead. Pure.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Captures, Regex, RegexSet};

/// What stands where a secret stood.
const HIDDEN: &str = "***";
/// Shorter words behind `Bearer` or `token:` are words.
const SHORTEST: usize = 8;
/// Longer ones are secrets, whatever letters they have.
const LONG: usize = 24;

/// Secrets that are known by their own shape.
const BARE: &[&str] = &[
    // AWS, Google, GitHub, GitLab, Slack, npm, Vault, DigitalOcean, SendGrid, Stripe, and the models' `sk-`.
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    r"\bAIza[0-9A-Za-z_-]{30,}",
    r"\bgh[pousr]_[0-9A-Za-z]{20,}",
    r"\bgithub_pat_[0-9A-Za-z_]{20,}",
    r"\bglpat-[0-9A-Za-z_-]{16,}",
    r"\bxox[abeoprs]-[0-9A-Za-z-]{10,}",
    r"\bnpm_[0-9A-Za-z]{30,}",
    r"\bhv[sb]\.[0-9A-Za-z_-]{20,}",
    r"\bdop_v1_[0-9a-f]{40,}",
    r"\bSG\.[0-9A-Za-z_-]{16,}\.[0-9A-Za-z_-]{16,}",
    r"\b[rs]k_live_[0-9A-Za-z]{16,}",
    r"\bsk-[0-9A-Za-z_-]{20,}",
    // A JSON web token: its header and its claims are JSON, so both begin so.
    r"\beyJ[0-9A-Za-z_-]{8,}\.eyJ[0-9A-Za-z_-]{4,}(?:\.[0-9A-Za-z_-]*)?",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*",
];

/// Names whose values are secrets.
const SURE: &str = r"(?:password|passwd|passphrase|pwd|secret)";
/// Names whose values mostly are.
const MOSTLY: &str = r"(?:token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)";

/// Whether a value looks like a secret.
type Looks = fn(&str) -> bool;

/// What is hidden of a shape: all of it, or its last group where its front says what it is.
struct Shape {
    regex: Regex,
    /// What its value must look like.
    looks: Looks,
}

struct Shapes {
    any: RegexSet,
    each: Vec<Shape>,
}

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    let any = |_: &str| true;
    let names = format!("(?:{SURE}|{MOSTLY})");
    let behind: [(String, Looks); 6] = [
        // `DB_PASSWORD=x`, `"token" = "x"`, `?api_key=x`; `--password x`.
        (format!(r#"(?i)([0-9A-Z_.-]*{SURE}[0-9A-Z_.-]*["']?\s*=\s*["']?)([^\s"',;&]{{3,}})"#), any),
        (format!(r#"(?i)([0-9A-Z_.-]*{MOSTLY}[0-9A-Z_.-]*["']?\s*=\s*["']?)([^\s"',;&]{{3,}})"#), is_no_word),
        (format!(r#"(?i)(--[0-9A-Z-]*{names}\s+["']?)([^\s"',;&-][^\s"',;&]{{2,}})"#), is_secret),
        (format!(r#"(?i)([0-9A-Z_.-]*{names}[0-9A-Z_.-]*["']?\s*:\s*["']?)([^\s"',;&]{{3,}})"#), is_secret),
        (r"(?i)(\b(?:bearer|basic)\s+)([0-9A-Za-z._~+/=-]{3,})".to_owned(), is_secret),
        // `https://user:password@host`.
        (r"(://[^/\s:@]+:)([^/\s@]{3,})@".to_owned(), any),
    ];
    let mut each: Vec<(String, Looks)> = Vec::new();
    each.extend(BARE.iter().map(|shape| ((*shape).to_owned(), any as Looks)));
    each.extend(behind);
    // They stand above and compile; a test holds it.
    let any = RegexSet::new(each.iter().map(|(shape, _)| shape)).unwrap_or_else(|_| RegexSet::empty());
    let each = each.into_iter().filter_map(|(shape, looks)| Some(Shape { regex: Regex::new(&shape).ok()?, looks }));
    Shapes { any, each: each.collect() }
});

/// The same text with everything hidden that looks like a secret.
pub fn hide_shapes(text: &str) -> Cow<'_, str> {
    let shapes = &*SHAPES;
    let mut out = Cow::Borrowed(text);
    if !shapes.any.is_match(text) {
        return out;
    }
    for Shape { regex, looks } in &shapes.each {
        let hidden = regex.replace_all(&out, |found: &Captures<'_>| {
            let whole = found.get(0).map_or("", |whole| whole.as_str());
            let Some(value) = found.get(2) else { return HIDDEN.to_owned() };
            let known = value.as_str().starts_with(['*', '$', '<']);
            if known || !looks(value.as_str()) {
                return whole.to_owned();
            }
            let front = found.get(1).map_or("", |front| front.as_str());
            let behind = &whole[front.len() + value.as_str().len()..];
            format!("{front}{HIDDEN}{behind}")
        });
        if let Cow::Owned(hidden) = hidden {
            out = Cow::Owned(hidden);
        }
    }
    out
}

/// Whether something behind `token=` is more than a word.
fn is_no_word(value: &str) -> bool {
    value.bytes().any(|byte| byte.is_ascii_digit()) || value.len() >= 2 * SHORTEST
}

/// Whether something behind `token:` is more than a word, or than a number.
fn is_secret(value: &str) -> bool {
    let digits = value.bytes().any(|byte| byte.is_ascii_digit());
    let letters = value.bytes().any(|byte| byte.is_ascii_alphabetic());
    value.len() >= SHORTEST && digits && letters || value.len() >= LONG
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_shape_compiles() {
        assert_eq!(SHAPES.each.len(), BARE.len() + 6);
        assert_eq!(SHAPES.any.len(), BARE.len() + 6);
    }

    #[test]
    fn what_looks_like_a_secret_is_hidden_and_what_stands_around_it_is_not() {
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        for (text, hidden) in [
            ("key AKIAIOSFODNN7EXAMPLE!", "key ***!"),
            ("push with ghp_0123456789abcdefghijABCDEFGHIJ012345 now", "push with *** now"),
            ("glpat-abcdefghij0123456789 and xoxb-1234567890-abcdef", "*** and ***"),
            (jwt, "***"),
            ("Authorization: Bearer abc123def456", "Authorization: Bearer ***"),
            ("DB_PASSWORD=hunter2 make", "DB_PASSWORD=*** make"),
            (r#"{"api_key": "a1b2c3d4e5", "n": 1}"#, r#"{"api_key": "***", "n": 1}"#),
            ("https://x/?token=abc1&y=1", "https://x/?token=***&y=1"),
            ("clone https://bot:hunter2@git.example/x", "clone https://bot:***@git.example/x"),
            ("psql --password hunter22 -h db", "psql --password *** -h db"),
            ("-----BEGIN RSA PRIVATE KEY-----MIIE", "***"),
        ] {
            assert_eq!(hide_shapes(text), hidden, "{text}");
        }
    }

    #[test]
    fn words_are_words() {
        for text in [
            "the password: wrong again",
            "token: expired",
            "basic authentication failed",
            "the bearer of bad news",
            "deployed 3f2a91c0d4e5f60718293a4b5c6d7e8f90a1b2c3 to prod in 3m12s",
            "http://127.0.0.1:8080/said/0123456789abcdef0123456789abcdef",
            "alice: secret sauce",
            "password=***",
            "set it with --token TOKEN",
            "the server has token=TOPICLEN now",
        ] {
            assert!(
                matches!(hide_shapes(text), Cow::Borrowed(_)) || hide_shapes(text) == text,
                "{}",
                hide_shapes(text)
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_hidden_never_makes_a_text_longer_and_hiding_again_changes_nothing(
            text in "([a-z ]{0,9}(password|token|Bearer |AKIA|://a:)[=: ]?[a-zA-Z0-9@/.]{0,30}){0,3}"
        ) {
            let once = hide_shapes(&text).into_owned();
            prop_assert!(once.len() <= text.len());
            prop_assert_eq!(hide_shapes(&once).into_owned(), once.clone());
        }
    }
}
