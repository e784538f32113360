//! Events of kind `evnt` that have a name of somebody's own: Eggdrop's `callevent`. Pure.

use chrono::{DateTime, Utc};
use masterchief_contract::{Event, EventData, Kind, Value};

/// The longest name.
const NAME_MAX: usize = 64;
/// How often a handler of such an event may be the cause of the next: else there could be no end of it.
const DEPTH_MAX: u64 = 8;
/// The tag that counts.
const DEPTH: &str = "masterchief/depth";

/// The event, called by a handler of `cause` or from outside. Says what is wrong with it.
pub fn called(name: &str, text: &str, cause: Option<&Event>, at: DateTime<Utc>) -> Result<Event, String> {
    if name.is_empty() || name.len() > NAME_MAX || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("{name:?} is no name of an event: it is one word of at most {NAME_MAX} bytes"));
    }
    let depth = cause.and_then(|cause| cause.tag(DEPTH)).and_then(|depth| depth.parse().ok()).unwrap_or(0u64) + 1;
    if depth > DEPTH_MAX {
        return Err(format!(
            "{name} is called by what was called itself, {DEPTH_MAX} times over: there would be no end of it"
        ));
    }
    let mut event = EventData::new(&[Kind::Evnt], at);
    event.text = text.to_owned();
    event.fields = vec![("type", Value::from(name))];
    event.tags = vec![(DEPTH.to_owned(), depth.to_string())];
    Ok(Event::new(event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word_and_what_calls_itself_ends() {
        let now = DateTime::UNIX_EPOCH;
        for bad in ["", "two words", "a\nb", &"x".repeat(65)] {
            assert!(called(bad, "", None, now).is_err(), "{bad:?}");
        }
        let mut cause = None;
        let mut count = 0;
        while let Ok(event) = called("again", "once more", cause.as_ref(), now) {
            assert_eq!((event.field_str("type"), event.text()), ("again", "once more"));
            cause = Some(event);
            count += 1;
        }
        assert_eq!(count, DEPTH_MAX);
    }
}
