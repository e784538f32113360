//! `webhook`: what services post to the gateway. Here is what is pure about it: masks, signatures, and what a payload says.

mod describe;
mod kept;
mod mask;
mod settings;
mod verify;

use std::borrow::Cow;

use masterchief_contract::{EventData, FlagScope, Kind, KindSpec, Matching, Returns, Wanted};

pub use describe::{Hook, describe};
pub use settings::{Algorithm, Encoding, Preset, RateSettings, RouteSettings, SignatureSettings};
pub use verify::{Headers, Refusal, verify};

use mask::HookMask;

/// The stream that all webhooks are written to; a route is a lane.
pub const STREAM: &str = "webhook";

/// The row.
pub static KINDS: &[KindSpec] = &[KindSpec {
    kind: Kind::Webhook,
    matching: Matching::Journal,
    flags: FlagScope::Nobody,
    stackable: true,
    returns: Returns::Ignored,
    subject,
    check: |mask| HookMask::parse(mask).map(drop),
    fields: &["provider", "route", "event", "action", "repo", "ref", "delivery", "headers", "peer"],
    about: "a service posts to /hooks/ROUTE of the gateway, with a signature that is right; `data` is what it posted",
    example: "github/pull_request/opened:acme/*#main",
    wants: Some(|mask| {
        let mask = HookMask::parse(mask)?;
        Ok(Wanted { stream: STREAM.into(), filter: Some(mask.filter()) })
    }),
}];

/// `github/push:acme/shop#main`
fn subject(event: &EventData) -> Cow<'_, str> {
    let mut out = format!("{}/{}", event.field_str("provider"), event.field_str("event"));
    for (sign, name) in [("/", "action"), (":", "repo"), ("#", "ref")] {
        let value = event.field_str(name);
        if !value.is_empty() {
            out.push_str(sign);
            out.push_str(value);
        }
    }
    Cow::Owned(out)
}
