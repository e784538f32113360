//! Hides secrets in whatever a step says, also where one is split between two reads, in base64 or in a URL.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use masterchief_contract::Secret;
use serde_json::{Map, Value};

/// What stands where a secret stood.
const HIDDEN: &str = "***";
/// Shorter secrets are not looked for: they would blacken every text.
const SHORTEST: usize = 4;

/// Knows the secrets of a run. Cheap to clone.
#[derive(Clone, Default)]
pub struct Masker {
    /// Every form of every secret, the longest first.
    forms: Arc<Vec<Vec<u8>>>,
}

impl std::fmt::Debug for Masker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Masker({})", self.forms.len())
    }
}

impl Masker {
    /// A masker for these secrets. Of one with several lines each line is hidden by itself.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Masker {
        let mut forms: Vec<Vec<u8>> = Vec::new();
        for secret in secrets {
            let whole = secret.reveal().trim_end_matches(['\r', '\n']);
            for part in std::iter::once(whole).chain(whole.lines()) {
                add_forms(part.as_bytes(), &mut forms);
            }
        }
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        Masker { forms: Arc::new(forms) }
    }

    /// The same text with every secret hidden.
    pub fn hide(&self, text: &str) -> String {
        if self.forms.is_empty() {
            return text.to_owned();
        }
        let mut out = Vec::with_capacity(text.len());
        let mut stream = self.stream();
        stream.push(text.as_bytes(), &mut out);
        stream.finish(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Finds whether there is anything to hide in a text, faster than by hiding it; nothing where there are no secrets.
    pub fn finder(&self) -> Option<regex::bytes::Regex> {
        let literal = |form: &Vec<u8>| {
            String::from_utf8_lossy(form).chars().map(|c| regex::escape(c.encode_utf8(&mut [0; 4]))).collect()
        };
        let forms: Vec<String> = self.forms.iter().map(literal).collect();
        let any = regex::bytes::Regex::new(&forms.join("|"));
        any.ok().filter(|_| !forms.is_empty())
    }

    /// The same value with every secret hidden, also in the names of fields and where one reads as a number.
    pub fn hide_all(&self, value: Value) -> Value {
        match value {
            _ if self.forms.is_empty() => value,
            Value::String(text) => Value::String(self.hide(&text)),
            Value::Array(list) => list.into_iter().map(|item| self.hide_all(item)).collect(),
            Value::Object(map) => map
                .into_iter()
                .map(|(name, value)| (self.hide(&name), self.hide_all(value)))
                .collect::<Map<_, _>>()
                .into(),
            Value::Number(number) => {
                let text = number.to_string();
                let hidden = self.hide(&text);
                if hidden == text { Value::Number(number) } else { Value::String(hidden) }
            }
            other => other,
        }
    }

    /// Hides secrets in what comes in pieces.
    pub fn stream(&self) -> MaskStream {
        MaskStream { masker: self.clone(), held: Vec::new() }
    }

    /// Every form of every secret, to hand on to a process that masks by itself.
    pub(super) fn forms(&self) -> Vec<Vec<u8>> {
        self.forms.as_ref().clone()
    }

    /// A masker of forms that were handed on.
    pub(super) fn of_forms(forms: Vec<Vec<u8>>) -> Masker {
        Masker { forms: Arc::new(forms) }
    }
}

/// Hides secrets in a stream of bytes. What may be the beginning of a secret is held back until it is clear.
pub struct MaskStream {
    masker: Masker,
    held: Vec<u8>,
}

impl MaskStream {
    /// Takes bytes; appends what is clear to `out`.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let forms = Arc::clone(&self.masker.forms);
        if forms.is_empty() {
            out.extend_from_slice(bytes);
            return;
        }
        self.held.extend_from_slice(bytes);
        let keep = self.scan(&forms, out, false);
        self.held.drain(..keep);
    }

    /// There is no more.
    pub fn finish(self, out: &mut Vec<u8>) {
        let forms = Arc::clone(&self.masker.forms);
        self.scan(&forms, out, true);
    }

    /// Whether something is held back.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Appends what is clear; gives how many bytes that took.
    fn scan(&self, forms: &[Vec<u8>], out: &mut Vec<u8>, last: bool) -> usize {
        let held = self.held.as_slice();
        let mut at = 0;
        'bytes: while at < held.len() {
            let rest = &held[at..];
            for form in forms {
                if rest.starts_with(form) {
                    out.extend_from_slice(HIDDEN.as_bytes());
                    at += form.len();
                    continue 'bytes;
                }
                // The longest comes first, so a longer one that may still become whole is waited for.
                if !last && form.len() > rest.len() && form.starts_with(rest) {
                    return at;
                }
            }
            // Up to the next byte that a secret begins with.
            let next = rest[1..].iter().position(|byte| forms.iter().any(|form| form[0] == *byte));
            let clear = next.map_or(rest.len(), |next| next + 1);
            out.extend_from_slice(&rest[..clear]);
            at += clear;
        }
        held.len()
    }
}

fn add_forms(secret: &[u8], forms: &mut Vec<Vec<u8>>) {
    if secret.len() < SHORTEST {
        return;
    }
    forms.push(secret.to_vec());
    for engine in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD] {
        forms.push(engine.encode(secret).into_bytes());
    }
    // Inside something that is encoded as a whole (`user:password`) a secret begins at one of three places; what depends on
    // its neighbours is left out at both ends.
    for before in 0..3_usize {
        let mut padded = vec![0_u8; before];
        padded.extend_from_slice(secret);
        let whole = padded.len() / 3 * 3;
        let first = if before == 0 { 0 } else { 4 };
        for engine in [&STANDARD, &URL_SAFE] {
            let text = engine.encode(&padded[..whole]).into_bytes();
            if let Some(inner) = text.get(first..).filter(|inner| inner.len() >= 8) {
                forms.push(inner.to_vec());
            }
        }
    }
    let unreserved = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    if !secret.iter().all(unreserved) {
        for (lower, plus) in [(false, false), (true, false), (false, true)] {
            let mut text = String::new();
            for byte in secret {
                match byte {
                    byte if unreserved(byte) => text.push(char::from(*byte)),
                    b' ' if plus => text.push('+'),
                    byte if lower => text.push_str(&format!("%{byte:02x}")),
                    byte => text.push_str(&format!("%{byte:02X}")),
                }
            }
            forms.push(text.into_bytes());
        }
        // As a part of JSON.
        if let Ok(text) = std::str::from_utf8(secret) {
            let quoted = serde_json::Value::from(text).to_string();
            forms.push(quoted.as_bytes()[1..quoted.len() - 1].to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masker(secrets: &[&str]) -> Masker {
        Masker::new(&secrets.iter().map(|text| Secret::new(*text)).collect::<Vec<_>>())
    }

    #[test]
    fn a_secret_is_hidden_as_it_is_in_base64_and_in_a_url() {
        let masker = masker(&["hunter2 & co", "abc"]);
        let basic = STANDARD.encode("deploy:hunter2 & co");
        for text in
            ["hunter2 & co", "aHVudGVyMiAmIGNv", "hunter2%20%26%20co", "hunter2+%26+co", "hunter2%20%26%20co", &basic]
        {
            let hidden = masker.hide(&format!("it is {text}!"));
            assert!(hidden.contains("***"), "{text}: {hidden}");
            assert!(!hidden.contains("unter2") && !hidden.contains("HVudGVyMi"), "{text}: {hidden}");
        }
        assert_eq!(masker.hide("abc is too short to hide"), "abc is too short to hide");
    }

    #[test]
    fn of_two_secrets_that_begin_alike_the_longer_is_hidden_whole() {
        assert_eq!(masker(&["secret", "secret-of-prod"]).hide("secret-of-prod secret"), "*** ***");
    }

    #[test]
    fn a_key_of_several_lines_is_hidden_line_by_line() {
        assert_eq!(masker(&["first line\nsecond line\n"]).hide("> first line\n> second line"), "> ***\n> ***");
    }

    proptest! {
        #[test]
        fn wherever_a_text_is_cut_no_secret_passes(
            before in "[a-z ]{0,20}", secret in "[a-zA-Z0-9+/&=]{4,24}", after in "[a-z ]{0,20}",
            cuts in proptest::collection::vec(0usize..80, 0..6),
        ) {
            let masker = masker(&[&secret]);
            let text = format!("{before}{secret}{after}{secret}");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut out = Vec::new();
            let mut stream = masker.stream();
            for pair in cuts.windows(2) {
                stream.push(&text.as_bytes()[pair[0]..pair[1]], &mut out);
            }
            stream.finish(&mut out);
            let out = String::from_utf8(out).unwrap();
            prop_assert_eq!(&out, &masker.hide(&text));
            prop_assert!(!out.contains(&secret), "{}", out);
        }
    }
}
