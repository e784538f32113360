//! The mask of a webhook: `PROVIDER/EVENT[/ACTION][:REPO][#REF]`, with `*` and `?` in each.

use std::sync::Arc;

use masterchief_contract::{CaseMap, EventData, Filter, MaskFault, wild_match};

/// A mask in its parts; what is not said is `None` and matches everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HookMask {
    provider: String,
    event: String,
    action: Option<String>,
    repo: Option<String>,
    reference: Option<String>,
}

impl HookMask {
    pub(super) fn parse(mask: &str) -> Result<HookMask, MaskFault> {
        let wrong = |at: usize, what: &str| Err(MaskFault::at(mask, at, what));
        if let Some(at) = mask.find(char::is_whitespace) {
            return wrong(at, "a webhook mask has no blanks");
        }
        let (rest, reference) = match mask.split_once('#') {
            Some((_, "")) => return wrong(mask.len(), "name a branch after #, as in github/push#main"),
            Some((rest, reference)) => (rest, Some(reference.to_owned())),
            None => (mask, None),
        };
        let (rest, repo) = match rest.split_once(':') {
            Some((rest, "")) => return wrong(rest.len() + 1, "name a repository after :, as in github/push:acme/*"),
            Some((rest, repo)) => (rest, Some(repo.to_owned())),
            None => (rest, None),
        };
        let parts: Vec<&str> = rest.split('/').collect();
        if let Some(empty) = parts.iter().position(|part| part.is_empty()) {
            let at = parts.iter().take(empty).map(|part| part.len() + 1).sum();
            return wrong(at, "write PROVIDER/EVENT, as in github/push or alertmanager/firing; * stands for any");
        }
        match parts.as_slice() {
            [provider, event] => Ok(HookMask {
                provider: (*provider).to_owned(),
                event: (*event).to_owned(),
                action: None,
                repo,
                reference,
            }),
            // An action may hold a slash itself: what is left is one pattern.
            [provider, event, action @ ..] if !action.is_empty() => Ok(HookMask {
                provider: (*provider).to_owned(),
                event: (*event).to_owned(),
                action: Some(action.join("/")),
                repo,
                reference,
            }),
            _ => wrong(rest.len(), "write PROVIDER/EVENT, as in github/push; github/* is everything of a provider"),
        }
    }

    pub(super) fn filter(self) -> Filter {
        Arc::new(move |event: &EventData| self.meets(event))
    }

    fn meets(&self, event: &EventData) -> bool {
        let exactly = |mask: &str, text: &str| wild_match(&plain(mask), text, CaseMap::Ascii);
        let part =
            |mask: &Option<String>, name: &str| mask.as_ref().is_none_or(|mask| exactly(mask, event.field_str(name)));
        (exactly(&self.provider, event.field_str("provider")) || exactly(&self.provider, event.field_str("route")))
            && exactly(&self.event, event.field_str("event"))
            && part(&self.action, "action")
            && part(&self.repo, "repo")
            && part(&self.reference, "ref")
    }
}

/// Of Eggdrop's wildcards only `*` and `?` count here.
fn plain(mask: &str) -> String {
    let mut out = String::with_capacity(mask.len());
    for letter in mask.chars() {
        if matches!(letter, '%' | '~' | '\\') {
            out.push('\\');
        }
        out.push(letter);
    }
    out
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use masterchief_contract::{Kind, Value};

    use super::*;

    fn meets(mask: &str, fields: &[(&'static str, &str)]) -> bool {
        let mut event = EventData::new(&[Kind::Webhook], Utc::now());
        event.fields = fields.iter().map(|(name, value)| (*name, Value::from(*value))).collect();
        HookMask::parse(mask).unwrap().meets(&event)
    }

    #[test]
    fn what_a_mask_does_not_say_matches_everything() {
        let push = [("provider", "github"), ("route", "gh"), ("event", "push"), ("repo", "acme/shop"), ("ref", "main")];
        for mask in [
            "github/push",
            "*/push",
            "github/*",
            "gh/push",
            "github/push:acme/*",
            "github/push:acme/shop#ma?n",
            "github/push#main",
        ] {
            assert!(meets(mask, &push), "{mask}");
        }
        for mask in
            ["gitlab/push", "github/pull_request", "github/push/opened", "github/push:other/*", "github/push#dev"]
        {
            assert!(!meets(mask, &push), "{mask}");
        }
        let opened = [
            ("provider", "github"),
            ("event", "pull_request"),
            ("action", "opened"),
            ("repo", "acme/a~b"),
            ("ref", "main"),
        ];
        assert!(meets("github/pull_request/opened:acme/*#main", &opened));
        assert!(meets("github/pull_request/open*:acme/a~b", &opened));
        assert!(!meets("github/pull_request/closed", &opened));
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_place() {
        for (mask, column) in [
            ("", 1),
            ("github", 7),
            ("github/", 8),
            ("/push", 1),
            ("github/push:", 13),
            ("github/push#", 13),
            ("a b/c", 2),
        ] {
            let fault = HookMask::parse(mask).unwrap_err();
            assert_eq!(fault.column, column, "{mask}: {fault}");
        }
    }
}
