//! `rest`: something over HTTP is polled, and what changed is told.

mod auth;
mod settings;
mod source;

use std::borrow::Cow;
use std::sync::Arc;

use masterchief_contract::{EventData, FlagScope, Kind, KindSpec, MaskFault, Matching, Meter, Returns, Source, Wanted};

use crate::Settings;
use crate::poll::Polled;

pub use settings::{AuthSettings, On, RestSettings};

/// The row.
pub static KINDS: &[KindSpec] = &[KindSpec {
    kind: Kind::Rest,
    matching: Matching::Journal,
    flags: FlagScope::Nobody,
    stackable: true,
    returns: Returns::Ignored,
    subject: words,
    check: |mask| name(mask).map(drop),
    fields: &["name", "event", "key", "data", "status"],
    about: "something that is polled over HTTP changes: `event` is added, changed or removed",
    example: "rest:status",
    wants: Some(|mask| name(mask).map(|name| Wanted::all(format!("rest:{name}")))),
}];

fn words(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(&event.text)
}

/// The name in `rest:NAME`.
fn name(mask: &str) -> Result<&str, MaskFault> {
    const FORM: &str = "write rest:NAME; the address, and what of it is an event (`on`), stand in the configuration, as in sources: {rest: {NAME: {url: ...}}}";
    let Some(name) = mask.strip_prefix("rest:") else { return Err(MaskFault::at(mask, 0, FORM)) };
    let letters = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
    match name.find(|letter| !letters(letter)) {
        Some(at) => Err(MaskFault::at(mask, 5 + at, FORM)),
        None if name.is_empty() => Err(MaskFault::at(mask, 5, FORM)),
        None => Ok(name),
    }
}

/// The source of a stream, or why there is none.
pub(crate) fn source(settings: &Settings, stream: &str, meter: &Arc<Meter>) -> Result<Box<dyn Source>, String> {
    let name = name(stream).map_err(|fault| fault.to_string())?;
    let missing =
        || format!("there is no {name}; add it, as in sources: {{rest: {{{name}: {{url: \"https://...\"}}}}}}");
    let settings = settings.rest.get(name).ok_or_else(missing)?;
    Ok(Box::new(Polled::new(source::Rest::new(name, settings, meter)?, meter)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_a_name_and_what_is_an_event_stands_in_the_configuration() {
        assert_eq!(name("rest:status.eu"), Ok("status.eu"));
        for (mask, column) in
            [("", 1), ("https://status.example/#/state on change", 1), ("rest:", 6), ("rest:status on change", 12)]
        {
            let fault = name(mask).unwrap_err();
            assert!(fault.column == column && fault.message.contains("`on`"), "{mask}: {fault}");
        }
    }
}
