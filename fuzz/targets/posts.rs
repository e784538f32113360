#![no_main]
//! Any post: refused, or understood, for each preset.

use libfuzzer_sys::fuzz_target;
use masterchief_bindings::webhook::{Headers, RouteSettings, describe, verify};

struct Given<'a>(&'a str);

impl Headers for Given<'_> {
    // Every header says the same, whatever its name is.
    fn header(&self, _: &str) -> &str {
        self.0
    }
}

fuzz_target!(|input: (&str, &[u8])| {
    let (header, body) = input;
    let given = Given(header);
    for preset in [
        "github", "gitlab", "jenkins", "alertmanager", "pagerduty", "bitbucket", "gitea", "forgejo", "slack", "stripe",
        "standard", "grafana", "generic",
    ] {
        let settings = serde_json::json!({"preset": preset, "secrets": ["c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"]});
        let route: RouteSettings = serde_json::from_value(settings).expect("the route is good");
        // Nobody guesses a signature.
        let refused = verify(&route, preset, &given, body, chrono::DateTime::UNIX_EPOCH).is_err();
        assert!(refused || header.contains("c2VjcmV0"), "{preset}");
        let _ = describe(&route, preset, &given, body);
    }
});
