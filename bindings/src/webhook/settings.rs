//! What can be configured about a route.

use std::time::Duration;

use masterchief_contract::Secret;
use serde::Deserialize;

/// Whose webhooks a route takes: how they are signed and what they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Preset {
    Github,
    Gitlab,
    Jenkins,
    Alertmanager,
    Pagerduty,
    Bitbucket,
    Gitea,
    Forgejo,
    Slack,
    Stripe,
    /// <https://www.standardwebhooks.com>
    Standard,
    Grafana,
    /// `signature`, `event` and `delivery` say how.
    Generic,
}

impl Preset {
    /// All of them.
    pub const ALL: [(&str, Preset); 13] = [
        ("github", Preset::Github),
        ("gitlab", Preset::Gitlab),
        ("jenkins", Preset::Jenkins),
        ("alertmanager", Preset::Alertmanager),
        ("pagerduty", Preset::Pagerduty),
        ("bitbucket", Preset::Bitbucket),
        ("gitea", Preset::Gitea),
        ("forgejo", Preset::Forgejo),
        ("slack", Preset::Slack),
        ("stripe", Preset::Stripe),
        ("standard", Preset::Standard),
        ("grafana", Preset::Grafana),
        ("generic", Preset::Generic),
    ];

    /// By its name.
    pub fn named(name: &str) -> Option<Preset> {
        Preset::ALL.iter().find(|(known, _)| *known == name).map(|(_, preset)| *preset)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Preset::ALL.iter().find(|(_, preset)| *preset == self).map_or("generic", |(name, _)| name)
    }
}

/// A route: `/hooks/NAME`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteSettings {
    /// Whose webhooks come here; the preset of the route's own name where it is left out.
    pub preset: Option<Preset>,
    /// Secrets that are good now. Several, so that a new one can be brought in before the old one goes.
    pub secrets: Vec<Secret>,
    /// Takes whatever anybody posts. Only where nobody else can reach the port.
    pub insecure: bool,
    /// How a generic webhook is signed.
    pub signature: SignatureSettings,
    /// Where a generic webhook names its event: a header, or a JSON pointer into the body.
    pub event: Option<String>,
    /// Where a generic webhook names its delivery, the same on every redelivery.
    pub delivery: Option<String>,
    /// Whether a delivery that came before is answered and not handled again.
    pub dedupe: bool,
    /// The biggest body, in bytes; what the provider sends at most where it is left out.
    pub max_body: Option<usize>,
    /// How long the answer waits for a handler's `ev:respond`.
    #[serde(with = "humantime_serde")]
    pub answer: Duration,
    /// Posts of this route that are worked on at once; more are told to come again. Others have their own room.
    pub concurrency: usize,
    /// How fast it may be posted to by who may; no limit where it is left out. What is too much is told when to come again (429).
    pub rate: Option<RateSettings>,
}

/// So many posts within such a time: all at once, or spread over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateSettings {
    /// How many.
    pub posts: u32,
    /// Within what time.
    #[serde(with = "humantime_serde")]
    pub within: Duration,
}

/// How a generic webhook is signed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignatureSettings {
    /// The header that holds the signature.
    pub header: String,
    /// What stands in front of it: `sha256=`.
    pub prefix: String,
    /// The hash.
    pub algorithm: Algorithm,
    /// How the signature is written.
    pub encoding: Encoding,
    /// What is signed: `{body}`, `{timestamp}`, `{id}` and other text.
    pub signs: String,
    /// The header that holds the time, in seconds since 1970.
    pub timestamp: Option<String>,
    /// The header that holds the delivery.
    pub id: Option<String>,
    /// How far the time may be off, both ways.
    #[serde(with = "humantime_serde")]
    pub tolerance: Duration,
}

/// The hash of an HMAC, or no HMAC at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// For senders that know nothing better.
    Sha1,
    /// The usual.
    #[default]
    Sha256,
    /// The long one.
    Sha512,
    /// The header holds the secret itself.
    Token,
}

/// How a signature is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Either case.
    #[default]
    Hex,
    /// Standard alphabet.
    Base64,
}

/// No route takes more, in bytes: an event of twice that is the biggest the journal holds.
const BODY_MOST: usize = 32 << 20;

/// The longest time that posts are counted over.
const RATE_LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How far a signed time may be off.
pub(super) const TOLERANCE: Duration = Duration::from_secs(300);

impl Default for RouteSettings {
    fn default() -> RouteSettings {
        RouteSettings {
            preset: None,
            secrets: Vec::new(),
            insecure: false,
            signature: SignatureSettings::default(),
            event: None,
            delivery: None,
            dedupe: true,
            max_body: None,
            answer: Duration::ZERO,
            concurrency: 256,
            rate: None,
        }
    }
}

impl Default for SignatureSettings {
    fn default() -> SignatureSettings {
        SignatureSettings {
            header: "X-Signature".to_owned(),
            prefix: String::new(),
            algorithm: Algorithm::default(),
            encoding: Encoding::default(),
            signs: "{body}".to_owned(),
            timestamp: None,
            id: None,
            tolerance: TOLERANCE,
        }
    }
}

impl RouteSettings {
    /// The preset of a route of this name.
    pub fn preset_of(&self, name: &str) -> Preset {
        self.preset.or_else(|| Preset::named(name)).unwrap_or(Preset::Generic)
    }

    /// The biggest body that a route of this name takes, in bytes. GitHub sends up to 25 MB and does not send again
    /// (<https://docs.github.com/webhooks/webhook-events-and-payloads>); its like do as it does.
    pub fn max_body(&self, name: &str) -> usize {
        let forge = matches!(
            self.preset_of(name),
            Preset::Github | Preset::Gitlab | Preset::Gitea | Preset::Forgejo | Preset::Bitbucket
        );
        self.max_body.unwrap_or(if forge { 25 << 20 } else { 1 << 20 })
    }

    /// What is wrong beyond the grammar: the key and a sentence.
    pub fn faults(&self, name: &str) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let preset = self.preset_of(name);
        if self.secrets.iter().any(|secret| secret.reveal().trim().is_empty()) {
            faults.push(("secrets", "a secret is empty".to_owned()));
        }
        if self.concurrency == 0 {
            faults.push(("concurrency", "must be at least 1".to_owned()));
        }
        if self.rate.is_some_and(|rate| rate.posts == 0 || rate.within.is_zero() || rate.within > RATE_LONGEST) {
            faults.push(("rate", "takes at least one post, within at most a day".to_owned()));
        }
        match (self.secrets.is_empty(), self.insecure) {
            (true, false) => {
                let text = "say how to know the sender; only with `insecure: true` is it taken from anybody";
                faults.push(("secrets", text.to_owned()));
            }
            (false, true) => {
                faults.push(("insecure", "a route with secrets is not insecure; take one of them out".to_owned()))
            }
            _ => {}
        }
        if preset == Preset::Standard || preset == Preset::Gitlab {
            // GitLab's others are tokens, which may be any text.
            let is_key = |secret: &&str| preset == Preset::Standard || secret.starts_with("wh");
            for secret in self.secrets.iter().map(Secret::reveal).filter(is_key) {
                if super::verify::standard_key(secret).is_none() {
                    let text = "a secret is whsec_ or whpk_ and base64 behind it (32 bytes behind whpk_); with this one \
                                every post would be refused";
                    faults.push(("secrets", text.to_owned()));
                }
            }
        }
        let signs = &self.signature.signs;
        if !signs.contains("{body}") && self.signature.algorithm != Algorithm::Token {
            faults.push(("signature", "signs must hold {body}, or anything could be posted".to_owned()));
        }
        if signs.contains("{timestamp}") && self.signature.timestamp.is_none() {
            faults.push(("signature", "signs holds {timestamp}: name its header under `timestamp`".to_owned()));
        }
        if self.signature.timestamp.is_some() && !signs.contains("{timestamp}") && preset == Preset::Generic {
            let text =
                "timestamp is named and signs does not hold {timestamp}: it would not be signed, and prove nothing";
            faults.push(("signature", text.to_owned()));
        }
        if signs.contains("{id}") && self.signature.id.is_none() {
            faults.push(("signature", "signs holds {id}: name its header under `id`".to_owned()));
        }
        if self.max_body.is_some_and(|most| most == 0 || most > BODY_MOST) {
            faults.push(("max_body", format!("must be between 1 and {BODY_MOST} bytes")));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rate_that_lets_nothing_in_is_found_before_the_first_post() {
        let faults = |rate: serde_json::Value| {
            let route: RouteSettings = serde_json::from_value(json!({"insecure": true, "rate": rate})).unwrap();
            route.faults("route").len()
        };
        assert_eq!(faults(json!({"posts": 600, "within": "1m"})), 0);
        for bad in [
            json!({"posts": 0, "within": "1m"}),
            json!({"posts": 1, "within": "0s"}),
            json!({"posts": 1, "within": "2d"}),
        ] {
            assert_eq!(faults(bad.clone()), 1, "{bad}");
        }
    }

    #[test]
    fn a_key_that_no_signature_can_be_made_with_is_found_before_the_first_post() {
        let faults = |preset: &str, secret: &str| {
            let route: RouteSettings = serde_json::from_value(json!({"preset": preset, "secrets": [secret]})).unwrap();
            route.faults("route").len()
        };
        for bad in ["not base64!", "whsec_not base64!", "whpk_c2hvcnQ="] {
            assert_eq!(faults("standard", bad), 1, "{bad}");
        }
        for good in ["c2VjcmV0", "whsec_c2VjcmV0"] {
            assert_eq!(faults("standard", good), 0, "{good}");
        }
        assert_eq!((faults("gitlab", "any text!"), faults("gitlab", "whsec_any text!")), (0, 1));
    }
}
