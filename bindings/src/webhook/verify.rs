//! Who posted it: signatures over the bytes as they came, compared in constant time, before anything is parsed.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use masterchief_contract::Secret;
use ring::{hmac, signature};
use subtle::ConstantTimeEq;

use super::settings::{Algorithm, Encoding, Preset, RouteSettings, SignatureSettings, TOLERANCE};

/// Headers by name; a name's case does not count.
pub trait Headers {
    /// The value of a header; empty where it is not there.
    fn header(&self, name: &str) -> &str;
}

/// Why a post is not taken. The words are for our log; the sender is told the status only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no signature.
    #[error("it is not signed")]
    Unsigned,
    /// The signature is of another secret or another body.
    #[error("its signature is wrong")]
    Wrong,
    /// The signature is too old or from the future.
    #[error("its signature is too old, or its clock is wrong")]
    Stale,
}

/// Checks a post against the secrets of its route.
pub fn verify(
    route: &RouteSettings,
    name: &str,
    headers: &dyn Headers,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<(), Refusal> {
    if route.insecure {
        return Ok(());
    }
    let post = Post { headers, body, now };
    let secrets = &route.secrets;
    let plain = |header: &str, prefix: &str| {
        let form =
            SignatureSettings { header: header.to_owned(), prefix: prefix.to_owned(), ..SignatureSettings::default() };
        post.signed(&form, secrets)
    };
    match route.preset_of(name) {
        Preset::Github => plain("X-Hub-Signature-256", "sha256="),
        Preset::Bitbucket => plain("X-Hub-Signature", "sha256="),
        Preset::Pagerduty => plain("X-PagerDuty-Signature", "v1="),
        Preset::Gitea | Preset::Forgejo => post.gitea(secrets),
        Preset::Gitlab => {
            let (signing, tokens): (Vec<Secret>, Vec<Secret>) =
                secrets.iter().cloned().partition(|secret| secret.reveal().starts_with("whsec_"));
            if !headers.header("webhook-signature").is_empty() && !signing.is_empty() {
                return post.standard(&signing);
            }
            post.token("X-Gitlab-Token", "", &tokens)
        }
        Preset::Jenkins | Preset::Alertmanager => post.authorization(secrets),
        Preset::Grafana => post.grafana(route),
        Preset::Slack => post.signed(
            &SignatureSettings {
                header: "X-Slack-Signature".to_owned(),
                prefix: "v0=".to_owned(),
                signs: "v0:{timestamp}:{body}".to_owned(),
                timestamp: Some("X-Slack-Request-Timestamp".to_owned()),
                ..SignatureSettings::default()
            },
            secrets,
        ),
        Preset::Stripe => post.stripe(secrets),
        Preset::Standard => post.standard(secrets),
        Preset::Generic if route.signature.algorithm == Algorithm::Token => {
            post.token(&route.signature.header, &route.signature.prefix, secrets)
        }
        Preset::Generic => post.signed(&route.signature, secrets),
    }
}

struct Post<'a> {
    headers: &'a dyn Headers,
    body: &'a [u8],
    now: DateTime<Utc>,
}

/// Whether any of these is right. All of them are looked at, so that the time says nothing.
fn any(of: impl Iterator<Item = bool>) -> Result<(), Refusal> {
    if of.fold(false, |found, one| found | one) { Ok(()) } else { Err(Refusal::Wrong) }
}

fn same(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

fn decoded(encoding: Encoding, text: &str) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Base64 => BASE64.decode(text).ok(),
        Encoding::Hex => {
            let digits = text.as_bytes();
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let whole = !digits.is_empty() && digits.len().is_multiple_of(2);
            let pairs = digits.chunks(2).map(|pair| Some((digit(pair[0])? * 16 + digit(*pair.get(1)?)?) as u8));
            whole.then(|| pairs.collect()).flatten()
        }
    }
}

/// The key behind `whsec_…` (HMAC) or `whpk_…` (ed25519).
pub(super) fn standard_key(secret: &str) -> Option<(bool, Vec<u8>)> {
    if let Some(text) = secret.strip_prefix("whpk_") {
        return Some((true, BASE64.decode(text).ok().filter(|key| key.len() == 32)?));
    }
    let text = secret.strip_prefix("whsec_").unwrap_or(secret);
    Some((false, BASE64.decode(text).ok().filter(|key| !key.is_empty())?))
}

impl Post<'_> {
    /// An HMAC as it is described. The header may hold several, separated by commas.
    fn signed(&self, form: &SignatureSettings, secrets: &[Secret]) -> Result<(), Refusal> {
        let header = self.headers.header(&form.header);
        let given: Vec<Vec<u8>> = header
            .split(',')
            .filter_map(|part| decoded(form.encoding, part.trim().strip_prefix(form.prefix.as_str())?))
            .collect();
        if header.trim().is_empty() {
            return Err(Refusal::Unsigned);
        }
        let timestamp = form.timestamp.as_deref().map_or("", |name| self.headers.header(name));
        if form.timestamp.is_some() {
            self.in_time(timestamp, form.tolerance)?;
        }
        let id = form.id.as_deref().map_or("", |name| self.headers.header(name));
        let signed = filled(&form.signs, timestamp, id, self.body);
        let algorithm = match form.algorithm {
            Algorithm::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Algorithm::Sha512 => hmac::HMAC_SHA512,
            Algorithm::Sha256 | Algorithm::Token => hmac::HMAC_SHA256,
        };
        self.hmac(algorithm, secrets.iter().map(|secret| secret.reveal().as_bytes()), &signed, &given)
    }

    fn hmac<'k>(
        &self,
        algorithm: hmac::Algorithm,
        keys: impl Iterator<Item = &'k [u8]>,
        signed: &[u8],
        given: &[Vec<u8>],
    ) -> Result<(), Refusal> {
        any(keys.filter(|key| !key.is_empty()).flat_map(|key| {
            let key = hmac::Key::new(algorithm, key);
            given.iter().map(move |given| hmac::verify(&key, signed, given).is_ok())
        }))
    }

    /// A header that holds the secret itself.
    fn token(&self, header: &str, prefix: &str, secrets: &[Secret]) -> Result<(), Refusal> {
        let given = self.headers.header(header);
        let Some(given) = given.strip_prefix(prefix).filter(|given| !given.is_empty()) else {
            return Err(if given.is_empty() { Refusal::Unsigned } else { Refusal::Wrong });
        };
        any(secrets.iter().map(|secret| same(secret.reveal().as_bytes(), given.as_bytes())))
    }

    /// `Authorization: Basic …` of a secret `user:password`, or `Bearer SECRET`.
    fn authorization(&self, secrets: &[Secret]) -> Result<(), Refusal> {
        let header = self.headers.header("Authorization");
        let Some((scheme, given)) = header.split_once(' ') else { return Err(Refusal::Unsigned) };
        let given = match scheme.to_ascii_lowercase().as_str() {
            "bearer" => given.trim().as_bytes().to_vec(),
            "basic" => BASE64.decode(given.trim()).map_err(|_| Refusal::Wrong)?,
            _ => return Err(Refusal::Unsigned),
        };
        any(secrets.iter().map(|secret| same(secret.reveal().as_bytes(), &given)))
    }

    /// The bare HMAC of the JSON text: of the field `payload`, where it was sent as a form.
    fn gitea(&self, secrets: &[Secret]) -> Result<(), Refusal> {
        let header = ["X-Forgejo-Signature", "X-Gitea-Signature"].iter().map(|name| self.headers.header(name));
        let header = header.into_iter().find(|value| !value.is_empty()).ok_or(Refusal::Unsigned)?;
        let given: Vec<Vec<u8>> = decoded(Encoding::Hex, header.trim()).into_iter().collect();
        let payload = super::describe::form_payload(self.headers, self.body);
        let signed = payload.as_deref().map_or(self.body, str::as_bytes);
        self.hmac(hmac::HMAC_SHA256, secrets.iter().map(|secret| secret.reveal().as_bytes()), signed, &given)
    }

    /// With a timestamp header the time is signed too; then an old one is worth nothing.
    fn grafana(&self, route: &RouteSettings) -> Result<(), Refusal> {
        let usual = SignatureSettings::default();
        let mut form = route.signature.clone();
        if form.header == usual.header {
            form.header = "X-Grafana-Alerting-Signature".to_owned();
        }
        if form.timestamp.is_some() && form.signs == usual.signs {
            form.signs = "{timestamp}:{body}".to_owned();
        }
        self.signed(&form, &route.secrets)
    }

    /// `t=UNIX,v1=HEX[,v1=HEX…]`
    fn stripe(&self, secrets: &[Secret]) -> Result<(), Refusal> {
        let header = self.headers.header("Stripe-Signature");
        if header.is_empty() {
            return Err(Refusal::Unsigned);
        }
        let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
        let timestamp = parts().find(|(name, _)| *name == "t").map_or("", |(_, value)| value);
        self.in_time(timestamp, TOLERANCE)?;
        let given: Vec<Vec<u8>> =
            parts().filter(|(name, _)| *name == "v1").filter_map(|(_, value)| decoded(Encoding::Hex, value)).collect();
        let signed = filled("{timestamp}.{body}", timestamp, "", self.body);
        self.hmac(hmac::HMAC_SHA256, secrets.iter().map(|secret| secret.reveal().as_bytes()), &signed, &given)
    }

    /// Standard Webhooks 1.0.0: `v1,BASE64` (HMAC) and `v1a,BASE64` (ed25519), separated by blanks.
    fn standard(&self, secrets: &[Secret]) -> Result<(), Refusal> {
        let [id, timestamp, header] =
            ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| self.headers.header(name));
        if id.is_empty() || timestamp.is_empty() || header.is_empty() {
            return Err(Refusal::Unsigned);
        }
        self.in_time(timestamp, TOLERANCE)?;
        let signed = filled("{id}.{timestamp}.{body}", timestamp, id, self.body);
        let parts = || header.split(' ').filter_map(|part| part.split_once(','));
        let given = |version: &'static str| -> Vec<Vec<u8>> {
            let of = parts().filter(|(name, _)| *name == version);
            of.filter_map(|(_, value)| decoded(Encoding::Base64, value)).collect()
        };
        let (symmetric, asymmetric) = (given("v1"), given("v1a"));
        any(secrets.iter().filter_map(|secret| standard_key(secret.reveal())).flat_map(|(public, key)| {
            let given = if public { &asymmetric } else { &symmetric };
            let right: Vec<bool> = if public {
                let key = signature::UnparsedPublicKey::new(&signature::ED25519, key);
                given.iter().map(|given| key.verify(&signed, given).is_ok()).collect()
            } else {
                let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
                given.iter().map(|given| hmac::verify(&key, &signed, given).is_ok()).collect()
            };
            right.into_iter()
        }))
    }

    fn in_time(&self, timestamp: &str, tolerance: Duration) -> Result<(), Refusal> {
        let digits = timestamp.len() <= 12 && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let at: i64 = digits.then(|| timestamp.parse().ok()).flatten().ok_or(Refusal::Unsigned)?;
        let off = self.now.timestamp().abs_diff(at);
        if off <= tolerance.as_secs() { Ok(()) } else { Err(Refusal::Stale) }
    }
}

/// A template with its parts put in; the body as it came, whatever bytes it has.
fn filled(template: &str, timestamp: &str, id: &str, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(template.len() + body.len() + 32);
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        let parts = [("{body}", body), ("{timestamp}", timestamp.as_bytes()), ("{id}", id.as_bytes())];
        match parts.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, value)) => {
                out.extend_from_slice(value);
                rest = &rest[name.len()..];
            }
            None => {
                out.push(b'{');
                rest = &rest[1..];
            }
        }
    }
    out.extend_from_slice(rest.as_bytes());
    out
}
