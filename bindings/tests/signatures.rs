//! Published vectors of each provider, and what must be refused about each.
//!
//! Sources: docs.github.com (validating webhook deliveries); octokit/webhooks-methods.js test/sign.test.ts (MIT);
//! Atlassian's example as quoted by adnanh/webhook #662; go-playground/webhooks bitbucketserver_test.go (MIT); adnanh/webhook
//! hook_test.go (MIT); standard-webhooks
//! libraries/rust/src/lib.rs (MIT); python-slack-sdk test_signature_verifier.py (MIT); go-pagerduty webhookv3_test.go
//! (Apache 2.0); RFC 4231. The others are computed with Python's hmac from the provider's documented rule.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use masterchief_bindings::webhook::{
    Algorithm, Encoding, Headers, Preset, Refusal, RouteSettings, SignatureSettings, verify,
};
use masterchief_contract::Secret;
use ring::signature::{Ed25519KeyPair, KeyPair};

struct Given(Vec<(&'static str, String)>);

impl Headers for Given {
    fn header(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }
}

/// A post that must be accepted, and everything around it that must not.
struct Vector {
    preset: Preset,
    secret: &'static str,
    /// The header with the signature comes first.
    headers: Vec<(&'static str, String)>,
    body: &'static [u8],
    at: i64,
    /// Whether the body is signed.
    signed: bool,
    /// Whether the time is signed.
    timed: bool,
    signature: SignatureSettings,
}

impl Default for Vector {
    fn default() -> Vector {
        Vector {
            preset: Preset::Generic,
            secret: "",
            headers: Vec::new(),
            body: b"",
            at: 1_700_000_000,
            signed: true,
            timed: false,
            signature: SignatureSettings::default(),
        }
    }
}

impl Vector {
    fn route(&self, secrets: &[&str]) -> RouteSettings {
        RouteSettings {
            preset: Some(self.preset),
            secrets: secrets.iter().map(|secret| Secret::new(*secret)).collect(),
            signature: self.signature.clone(),
            ..RouteSettings::default()
        }
    }

    fn verify(
        &self,
        secrets: &[&str],
        headers: &[(&'static str, String)],
        body: &[u8],
        at: i64,
    ) -> Result<(), Refusal> {
        let now = DateTime::<Utc>::from_timestamp(at, 0).unwrap();
        verify(&self.route(secrets), "route", &Given(headers.to_vec()), body, now)
    }

    fn holds(&self) {
        let what = self.preset.name();
        let (good, at) = (&self.headers, self.at);
        assert_eq!(self.verify(&[self.secret], good, self.body, at), Ok(()), "{what}");
        assert_eq!(
            self.verify(&["bm90IHRoaXMgb25l", self.secret], good, self.body, at),
            Ok(()),
            "{what}: while a secret changes"
        );
        assert!(self.verify(&["bm90IHRoaXMgb25l"], good, self.body, at).is_err(), "{what}: another secret");
        assert!(self.verify(&[], good, self.body, at).is_err(), "{what}: no secret");
        for missing in 0..good.len() {
            let mut headers = good.clone();
            headers.remove(missing);
            assert!(self.verify(&[self.secret], &headers, self.body, at).is_err(), "{what}: without header {missing}");
        }
        let changed = |change: &dyn Fn(&str) -> String| {
            let mut headers = good.clone();
            headers[0].1 = change(&headers[0].1);
            self.verify(&[self.secret], &headers, self.body, at)
        };
        assert!(changed(&|_| String::new()).is_err(), "{what}: an empty signature");
        assert!(changed(&|value| value.chars().take(8).collect()).is_err(), "{what}: a cut signature");
        assert!(changed(&|value| format!("x{value}")).is_err(), "{what}: another prefix");
        assert!(changed(&|value| value[..value.len() - 1].to_owned()).is_err(), "{what}: one letter short");
        if self.signed {
            let other = [self.body, b" "].concat();
            assert_eq!(self.verify(&[self.secret], good, &other, at), Err(Refusal::Wrong), "{what}: one blank more");
        }
        if self.timed {
            assert_eq!(self.verify(&[self.secret], good, self.body, at + 301), Err(Refusal::Stale), "{what}: too old");
            assert_eq!(
                self.verify(&[self.secret], good, self.body, at - 301),
                Err(Refusal::Stale),
                "{what}: of the future"
            );
            assert_eq!(self.verify(&[self.secret], good, self.body, at + 300), Ok(()), "{what}: just in time");
        }
    }
}

fn header(name: &'static str, value: &str) -> Vec<(&'static str, String)> {
    vec![(name, value.to_owned())]
}

#[test]
fn github_and_those_who_sign_like_it() {
    let github = |secret, body, hex: &str| Vector {
        preset: Preset::Github,
        secret,
        body,
        headers: header("X-Hub-Signature-256", &format!("sha256={hex}")),
        ..Vector::default()
    };
    github(
        "It's a Secret to Everybody",
        b"Hello, World!",
        "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
    )
    .holds();
    github("mysecret", br#"{"foo":"bar"}"#, "4864d2759938a15468b5df9ade20bf161da9b4f737ea61794142f3484236bda3").holds();
    let unicode = r#"{"foo":"Foo\n\u001B[34mbar: ♥♥♥♥♥♥♥♥\nthis-is-lost\u001B[0m\u001B[2K"}"#;
    let vector =
        github("development", unicode.as_bytes(), "afecc3caa27548bb90d51a50384cb2868b9a3327b4ad6a01c9bd4ed0f8b0b12c");
    vector.holds();
    let other = unicode.replace("u001B", "u001b");
    assert_eq!(
        vector.verify(&["development"], &vector.headers, other.as_bytes(), 0),
        Err(Refusal::Wrong),
        "the bytes count"
    );
    Vector {
        preset: Preset::Bitbucket,
        secret: "It's a Secret to Everybody",
        body: b"Hello World!",
        headers: header("X-Hub-Signature", "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"),
        ..Vector::default()
    }
    .holds();
    let bare = "5c4355936c2e25efca79f5e84a163b080a74f28bc185c159f7e0d9e3f40d47bc";
    for (preset, name) in [(Preset::Gitea, "X-Gitea-Signature"), (Preset::Forgejo, "X-Forgejo-Signature")] {
        Vector { preset, secret: "mysecret", body: b"{}", headers: header(name, bare), ..Vector::default() }.holds();
    }
    let form =
        vec![("X-Gitea-Signature", bare.to_owned()), ("Content-Type", "application/x-www-form-urlencoded".to_owned())];
    let vector = Vector { preset: Preset::Gitea, secret: "mysecret", headers: form, ..Vector::default() };
    let signed = vector.verify(&["mysecret"], &vector.headers, b"payload=%7B%7D", 0);
    assert_eq!(signed, Ok(()), "of a form the JSON text is signed, not the form");
    let pagerduty = |value: String| Vector {
        preset: Preset::Pagerduty,
        secret: "mysecret",
        body: b"{}",
        headers: header("X-PagerDuty-Signature", &value),
        ..Vector::default()
    };
    pagerduty(format!("v1={bare}")).holds();
    Vector {
        preset: Preset::Pagerduty,
        secret: "lDQHScfUeXUKaQRNF+8XIiDKZ7XX3itBAYzwU0TARw8lJqRnkKl2iB1anSb0Z+IK",
        body: include_bytes!("payloads/pagerduty/priority-updated.json"),
        headers: header("X-PagerDuty-Signature", "v1=0c0b9495b893a39e70d1fea2fe11fbe0a825f88b9f67846f6cc07dd2bc5476cd"),
        ..Vector::default()
    }
    .holds();
    let several = pagerduty(format!("v1={}, v1={bare}", "0".repeat(64)));
    assert_eq!(several.verify(&["mysecret"], &several.headers, b"{}", 0), Ok(()), "one good among bad");
}

#[test]
fn gitlab_by_token_and_by_signature() {
    Vector {
        preset: Preset::Gitlab,
        secret: "s3cret-of-gitlab",
        headers: header("X-Gitlab-Token", "s3cret-of-gitlab"),
        body: b"{}",
        signed: false,
        ..Vector::default()
    }
    .holds();
    let signing = Vector {
        preset: Preset::Gitlab,
        secret: "whsec_dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=",
        headers: vec![
            ("webhook-signature", "v1,75NdH3o5C0z89P8wiWR5yKrKWvM98S9PA5O3uZv7kt0=".to_owned()),
            ("webhook-id", "msg_1".to_owned()),
            ("webhook-timestamp", "1700000000".to_owned()),
        ],
        body: b"{}",
        timed: true,
        ..Vector::default()
    };
    signing.holds();
    let token = header("X-Gitlab-Token", signing.secret);
    assert!(signing.verify(&[signing.secret], &token, b"{}", signing.at).is_err(), "a signing secret is no token");
}

#[test]
fn standard_webhooks_with_both_kinds_of_key() {
    Vector {
        preset: Preset::Standard,
        secret: "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        headers: vec![
            ("webhook-signature", "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=".to_owned()),
            ("webhook-id", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk".to_owned()),
            ("webhook-timestamp", "1649367553".to_owned()),
        ],
        body: br#"{"email":"test@example.com","username":"test_user"}"#,
        at: 1_649_367_553,
        timed: true,
        ..Vector::default()
    }
    .holds();
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let signature = pair.sign(b"msg_2.1700000000.{}");
    let public: &'static str = format!("whpk_{}", BASE64.encode(pair.public_key().as_ref())).leak();
    Vector {
        preset: Preset::Standard,
        secret: public,
        headers: vec![
            ("webhook-signature", format!("v1a,{} v1,AAAA", BASE64.encode(signature.as_ref()))),
            ("webhook-id", "msg_2".to_owned()),
            ("webhook-timestamp", "1700000000".to_owned()),
        ],
        body: b"{}",
        timed: true,
        ..Vector::default()
    }
    .verify_only();
}

#[test]
fn a_signature_of_standard_webhooks_that_says_nothing_is_none() {
    let said = |signature: &str| {
        let vector = Vector { preset: Preset::Standard, body: b"{}", ..Vector::default() };
        let headers = [
            ("webhook-signature", signature.to_owned()),
            ("webhook-id", "msg_1".to_owned()),
            ("webhook-timestamp", vector.at.to_string()),
        ];
        let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let public = format!("whpk_{}", BASE64.encode(key.public_key().as_ref()));
        vector.verify(&["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", public.as_str()], &headers, b"{}", vector.at)
    };
    for signature in ["v1,", "v1a,", "v1, v1a,", "v1", ",", "v1,=", "v2,AAAA"] {
        assert_eq!(said(signature), Err(Refusal::Wrong), "{signature:?}");
    }
    assert_eq!(said(""), Err(Refusal::Unsigned));
}

/// What Bitbucket's own server signed with `secret`.
const BITBUCKET_SERVER: &[(&str, &str)] = &[
    ("pr-comment-deleted", "7c9575a6e9b141e063ef34e5066ebe67c3a5b59241e633d1332d70aba468fd04"),
    ("pr-comment-edited", "66580d1b02904e470cb48c1333452ea0748aecc3a9806f5a0f949be3a8b0a5ec"),
    ("pr-declined", "e323ab4d057f32475340d03c90aa9ec20cd3a96c15200d75e59f221c14053528"),
    ("pr-deleted", "657c5d9839c0e3c1c95e5ceceacb07f0e372328883dab6e25bb619ee8b19a359"),
    ("pr-merged", "adbee42ddd6a178b0c1160e89f666b53fb8c76495f782a4e3055e3fbee232704"),
    ("pr-modified", "1e307462390ff6f0c59fcdb8eb4b2977058b5cbc502a24a0db385f5331136227"),
    ("pr-opened", "b82c323978a741aa256c0a6bfa13a8f211e1795bd8ddb2641ced122769f7a7c6"),
    ("pr-reviewer-approved", "a8b78d774dea02f234069f724ee6c6a3c5c13fc3a3b856dac0a33d8ed9ec1823"),
    ("pr-reviewer-needs-work", "3d10aadcede2131674654bb48c10fe904b0b2ed3d3b283bdc5c64dbc4856582d"),
    ("pr-reviewer-unapproved", "9822024378738817dc85c0a41feb9fa4825058d28a9a1ee7065bfacd6a04c7c1"),
    ("pr-reviewer-updated", "07ca94a0a5c5913819a16ce0414f976023aeb0065fa9d80f990aad7f1d936be5"),
    ("repo-comment-added", "80b121d53ec48bb3f8bed9243ba53be62c8eb7d1ce0395ca87fef1938bf9620e"),
    ("repo-comment-deleted", "e8b6d3d1581366c9f65949c93149b29ba33252f6afa807432f8f823fb08680e7"),
    ("repo-comment-edited", "90a8f4898d8dd7a4ef99e33a7f1d86dd3645f45b2a5b59110493cc4b3062a712"),
    ("repo-forked", "d34115023042f9e7ef7020200650e2f34da137e0217708475f9b749ad889a16d"),
    ("repo-modified", "1511ed69d7697ede1699b0217e17b7d0b492eeccc9a5649d5d30dd84f0e5a89a"),
    ("repo-refs-changed", "8a60f7487d167f55886df87d4077192035d76f76a8e0b3a48fd8ae8cad25f391"),
];

#[test]
fn posts_of_a_real_bitbucket_server() {
    for (name, hex) in BITBUCKET_SERVER {
        let path = format!("{}/tests/payloads/bitbucket-server/{name}.json", env!("CARGO_MANIFEST_DIR"));
        Vector {
            preset: Preset::Bitbucket,
            secret: "secret",
            body: std::fs::read(path).unwrap().leak(),
            headers: header("X-Hub-Signature", &format!("sha256={hex}")),
            ..Vector::default()
        }
        .holds();
    }
}

impl Vector {
    /// For signatures with another good part behind the one that is changed.
    fn verify_only(&self) {
        assert_eq!(self.verify(&[self.secret], &self.headers, self.body, self.at), Ok(()));
        assert!(self.verify(&[self.secret], &self.headers, b"{} ", self.at).is_err());
        assert_eq!(self.verify(&[self.secret], &self.headers, self.body, self.at + 301), Err(Refusal::Stale));
    }
}

#[test]
fn slack_and_stripe_sign_the_time() {
    Vector {
        preset: Preset::Slack,
        secret: "8f742231b10e8888abcd99yyyzzz85a5",
        headers: vec![
            ("X-Slack-Signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503".to_owned()),
            ("X-Slack-Request-Timestamp", "1531420618".to_owned()),
        ],
        body: b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
        at: 1_531_420_618,
        timed: true,
        ..Vector::default()
    }
    .holds();
    let hex = "0c8670ed117751cc551a20e35839447075c42800ea3cf3e8a2fbda99cd1e6edd";
    Vector {
        preset: Preset::Stripe,
        secret: "whsec_test_secret",
        headers: header("Stripe-Signature", &format!("t=1700000000,v1={hex}")),
        body: br#"{"id":"evt_1","object":"event"}"#,
        timed: true,
        ..Vector::default()
    }
    .holds();
}

#[test]
fn the_hashes_are_those_of_rfc_4231() {
    // Test cases 1, 2 and 4; the keys of the others are no text.
    const EARLY: &str = "\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8}\u{9}\u{a}\u{b}\u{c}\u{d}\u{e}\u{f}\u{10}\u{11}\u{12}\u{13}\u{14}\u{15}\u{16}\u{17}\u{18}\u{19}";
    let cases: [(&'static str, &'static [u8], &str, &str); 3] = [
        (
            "\u{b}\u{b}\u{b}\u{b}\u{b}\u{b}\u{b}\u{b}\u{b}\u{b}\u{b}\u{b}\u{b}\u{b}\u{b}\u{b}\u{b}\u{b}\u{b}\u{b}",
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
        ),
        (
            "Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
        ),
        (
            EARLY,
            &[0xcd; 50],
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
            "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3dba91ca5c11aa25eb4d679275cc5788063a5f19741120c4f2de2adebeb10a298dd",
        ),
    ];
    for (secret, body, sha256, sha512) in cases {
        for (algorithm, hex) in [(Algorithm::Sha256, sha256), (Algorithm::Sha512, sha512)] {
            Vector {
                secret,
                body,
                headers: header("X-Signature", hex),
                signature: SignatureSettings { algorithm, ..SignatureSettings::default() },
                ..Vector::default()
            }
            .holds();
        }
    }
}

#[test]
fn grafana_generic_and_those_who_only_know_a_password() {
    let stripe_body = br#"{"id":"evt_1","object":"event"}"#;
    Vector {
        preset: Preset::Grafana,
        secret: "mysecret",
        headers: vec![
            (
                "X-Grafana-Alerting-Signature",
                "eb12ba432a688a0df61d3b978152aff76765fce1076f8db2f23a8303f4fb4eb3".to_owned(),
            ),
            ("X-Grafana-Alerting-Timestamp", "1700000000".to_owned()),
        ],
        body: stripe_body,
        timed: true,
        signature: SignatureSettings {
            timestamp: Some("X-Grafana-Alerting-Timestamp".to_owned()),
            ..SignatureSettings::default()
        },
        ..Vector::default()
    }
    .holds();
    let generic = |algorithm, prefix: &str, hex: &str| Vector {
        secret: "secret",
        headers: header("X-Signature", &format!("{prefix}{hex}")),
        body: br#"{"a": "z"}"#,
        signature: SignatureSettings { algorithm, prefix: prefix.to_owned(), ..SignatureSettings::default() },
        ..Vector::default()
    };
    generic(Algorithm::Sha1, "sha1=", "b17e04cbb22afa8ffbff8796fc1894ed27badd9e").holds();
    generic(Algorithm::Sha256, "", "f417af3a21bd70379b5796d5f013915e7029f62c580fb0f500f59a35a6f04c89").holds();
    let loud = generic(Algorithm::Sha256, "", "F417AF3A21BD70379B5796D5F013915E7029F62C580FB0F500F59A35A6F04C89");
    loud.holds();
    let empty = generic(Algorithm::Sha256, "", "f9e66e179b6747ae54108f82f8ade8b3c25d76fd30afde6c395822c530196169");
    Vector { body: b"", ..empty }.holds();
    let digest = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA512, b"secret"), b"id-1|{}");
    Vector {
        secret: "secret",
        headers: vec![("X-Sign", BASE64.encode(digest.as_ref())), ("X-Id", "id-1".to_owned())],
        body: b"{}",
        signature: SignatureSettings {
            header: "X-Sign".to_owned(),
            algorithm: Algorithm::Sha512,
            encoding: Encoding::Base64,
            signs: "{id}|{body}".to_owned(),
            id: Some("X-Id".to_owned()),
            tolerance: Duration::from_secs(60),
            ..SignatureSettings::default()
        },
        ..Vector::default()
    }
    .holds();
    for preset in [Preset::Alertmanager, Preset::Jenkins] {
        let basic = format!("Basic {}", BASE64.encode("chief:pw"));
        Vector {
            preset,
            secret: "chief:pw",
            headers: header("Authorization", &basic),
            body: b"{}",
            signed: false,
            ..Vector::default()
        }
        .holds();
        let bearer = header("Authorization", "Bearer t0ken-of-chief");
        Vector { preset, secret: "t0ken-of-chief", headers: bearer, body: b"{}", signed: false, ..Vector::default() }
            .holds();
    }
}

#[test]
fn a_route_that_could_not_keep_anybody_out_is_refused_when_it_is_configured() {
    let faults = |route: RouteSettings| route.faults("ci").into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(faults(RouteSettings::default()), ["secrets"]);
    assert!(faults(RouteSettings { insecure: true, ..RouteSettings::default() }).is_empty());
    let secrets = vec![Secret::new("s")];
    assert_eq!(
        faults(RouteSettings { insecure: true, secrets: secrets.clone(), ..RouteSettings::default() }),
        ["insecure"]
    );
    assert_eq!(faults(RouteSettings { secrets: vec![Secret::new(" ")], ..RouteSettings::default() }), ["secrets"]);
    let signs = |signs: &str| SignatureSettings { signs: signs.to_owned(), ..SignatureSettings::default() };
    let route = |form| RouteSettings { secrets: secrets.clone(), signature: form, ..RouteSettings::default() };
    assert_eq!(faults(route(signs("{timestamp}"))), ["signature", "signature"]);
    let refused = Refusal::Wrong.to_string() + &Refusal::Stale.to_string() + &Refusal::Unsigned.to_string();
    assert!(!refused.contains("sha256") && !refused.contains('='), "a refusal says nothing of what would be right");
}
