//! The kind of bind that runs make: whatever changes in a run is an event like any other.

use std::borrow::Cow;

use chrono::DateTime;
use masterchief_contract::{Event, EventData, FlagScope, Kind, KindSpec, Matching, Returns};
use serde_json::Value;

use super::engine::News;

/// A run or a stage changed its state.
pub const KIND: Kind = Kind::new("pipeline");

/// A stage is done by a handler: `luau: {call: NAME}` calls the bind with that mask.
pub const STEP: Kind = Kind::new("step");

/// The list of this room.
pub const KINDS: &[KindSpec] = &[
    STEPS,
    KindSpec {
        kind: KIND,
        matching: Matching::Mask,
        flags: FlagScope::Nobody,
        stackable: true,
        returns: Returns::Ignored,
        subject,
        check: |_| Ok(()),
        fields: &["run", "app", "env", "state", "stage", "stage_state", "version", "requester"],
        about: "a run changes its state (app/env/state), or one of its stages (app/env/stage/state)",
        example: "shop/prod/failed",
        wants: None,
    },
];

const STEPS: KindSpec = KindSpec {
    kind: STEP,
    matching: Matching::Word,
    flags: FlagScope::Nobody,
    stackable: false,
    returns: Returns::Ignored,
    subject: |_| Cow::Borrowed(""),
    check: |_| Ok(()),
    fields: &["run", "stage", "try", "workspace", "data"],
    about: "a stage of a pipeline calls it: luau: {call: NAME, args: {…}}; lines name=value are outputs, raising is failing",
    example: "verify_orders",
    wants: None,
};

fn subject(event: &EventData) -> Cow<'_, str> {
    let part = |name: &str| event.field_str(name);
    let place = format!("{}/{}", part("app"), part("env"));
    Cow::Owned(match part("stage") {
        "" => format!("{place}/{}", part("state")),
        stage => format!("{place}/{stage}/{}", part("stage_state")),
    })
}

impl News {
    /// The event of this change.
    pub fn event(&self, at: i64) -> Event {
        let mut data = EventData::new(&[KIND], DateTime::from_timestamp_millis(at).unwrap_or_default());
        data.text.clone_from(&self.text);
        data.fields = vec![
            ("run", Value::from(self.run)),
            ("app", Value::from(self.app.clone())),
            ("env", Value::from(self.env.clone())),
            ("state", Value::from(self.state.name())),
            ("stage", Value::from(self.stage.clone().unwrap_or_default())),
            ("stage_state", Value::from(self.stage_state.map_or("", super::state::StageState::name))),
            ("version", Value::from(self.version.clone())),
            ("requester", Value::from(self.requester.clone())),
        ];
        Event::new(data)
    }
}
