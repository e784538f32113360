//! The options of whatever says something, and the receipt of words that were waited for.
//!
//! `{ wait = true, class = "page", expires = "10m", as = "notice" }`.

use std::sync::Arc;

use masterchief_contract::{Action, Class, How, Mark, Outlet, Proof, Receipt, closest};
use mlua::{IntoLua, Lua, MetaMethod, Table, UserData, UserDataFields, UserDataMethods};

use super::super::value::Options;

/// How something is to be said.
pub(in super::super) struct Manner {
    /// As a message, a notice or an action.
    pub(in super::super) how: How,
    mark: Mark,
    wait: bool,
}

/// What became of words: `line` (for `!why`), `proof` (`echoed` or `guessed`), `msgid` and `time`.
pub(in super::super) struct Got(Receipt);

impl UserData for Got {
    fn add_fields<F: UserDataFields<Self>>(fields: &mut F) {
        fields.add_field_method_get("line", |_, got| Ok(got.0.line));
        fields.add_field_method_get("msgid", |_, got| Ok(got.0.msgid.clone()));
        fields.add_field_method_get("time", |_, got| Ok(got.0.at.timestamp_millis() as f64 / 1000.0));
        fields.add_field_method_get("proof", |_, got| Ok(proof(got.0.proof)));
    }

    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::ToString, |_, got, ()| {
            Ok(format!("line {}, {}", got.0.line, proof(got.0.proof)))
        });
    }
}

fn proof(proof: Proof) -> &'static str {
    match proof {
        Proof::Echoed => "echoed",
        Proof::Guessed => "guessed",
        Proof::None => "none",
    }
}

impl Manner {
    /// Reads the options of `what`, which says things as `how` where nothing else is asked for.
    pub(in super::super) fn read(what: &'static str, how: How, table: Option<Table>) -> mlua::Result<Manner> {
        let mut options = Options::new(what, table);
        let wait = options.take::<bool>("wait")?.unwrap_or(false);
        let class = options.take::<String>("class")?.map(|name| class(what, &name)).transpose()?;
        let how = match options.take::<String>("as")?.as_deref() {
            None => how,
            Some("say") => How::Say,
            Some("notice") => How::Notice,
            Some("act") => How::Act,
            Some(other) => {
                return Err(mlua::Error::runtime(format!(
                    "{what}: `as` is \"say\", \"notice\" or \"act\", not {other:?}"
                )));
            }
        };
        let expires = options.duration("expires")?;
        options.done()?;
        Ok(Manner { how, mark: Mark { class, expires, ..Mark::default() }, wait })
    }

    /// Says it; the receipt where that was waited for. What the server refuses is an error then.
    pub(in super::super) async fn perform(
        self,
        lua: &Lua,
        outlet: Arc<dyn Outlet>,
        action: Action,
    ) -> mlua::Result<mlua::Value> {
        let action = if self.mark == Mark::default() { action } else { action.marked(self.mark) };
        if self.wait {
            let receipt = outlet.deliver(action).await.map_err(mlua::Error::external)?;
            return lua.create_userdata(Got(receipt))?.into_lua(lua);
        }
        outlet.perform(action).await.map_err(mlua::Error::external)?;
        Ok(mlua::Value::Nil)
    }
}

fn class(what: &str, name: &str) -> mlua::Result<Class> {
    Class::named(name).ok_or_else(|| {
        let names = Class::ALL.map(Class::name);
        let meant =
            closest(name, names.into_iter()).map_or(String::new(), |meant| format!("; did you mean {meant:?}?"));
        mlua::Error::runtime(format!("{what}: there is no class {name:?}, only {}{meant}", names.join(", ")))
    })
}
