//! A bind: kind, flags, mask, handler, options, all checked when it is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use masterchief_contract::{
    Acts, BindId, BindOptions, Cooldown, DeliveryOptions, FlagScope, Handler, Kind, KindSpec, MaskFault, Matching,
    Missed, closest,
};

use super::kinds::Kinds;
use super::usage::{Usage, UsageFault};
use crate::users::{FlagFault, FlagMask};

/// Why a bind cannot be made. It says where the fault is and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindFault {
    /// No such kind.
    #[error("kind: there is no kind {name:?}{}", did_you_mean(suggestion.as_deref(), "; `masterchief binds --kinds` lists them"))]
    Kind {
        /// As written.
        name: String,
        /// What was probably meant.
        suggestion: Option<String>,
    },
    /// The flags cannot be read.
    #[error("flags {text:?}, {fault}")]
    Flags {
        /// As written.
        text: String,
        /// What is wrong.
        fault: FlagFault,
    },
    /// Nobody stands behind an event of this kind, so no flags can be asked of them.
    #[error("flags {text:?}: nobody stands behind a {kind} event; write \"-|-\"")]
    NobodysFlags {
        /// As written.
        text: String,
        /// The kind.
        kind: Kind,
    },
    /// Only global flags count for an event of this kind.
    #[error("flags {text:?}: those of a channel do not count for a {kind} event; write them in front of the bar")]
    GlobalFlags {
        /// As written.
        text: String,
        /// The kind.
        kind: Kind,
    },
    /// The mask can never match.
    #[error("mask {text:?}, {fault}")]
    Mask {
        /// As written.
        text: String,
        /// What is wrong.
        fault: MaskFault,
    },
    /// The usage cannot be read.
    #[error("usage {text:?}, {fault}")]
    Usage {
        /// As written.
        text: String,
        /// What is wrong.
        fault: UsageFault,
    },
    /// An option does not go with this kind, or with another option.
    #[error("option {name}: {message}")]
    Option {
        /// Which.
        name: &'static str,
        /// What is wrong.
        message: String,
    },
}

fn did_you_mean(suggestion: Option<&str>, otherwise: &str) -> String {
    suggestion.map_or(otherwise.to_owned(), |name| format!("; did you mean {name:?}?"))
}

/// A bind that is good but not in a table yet.
#[derive(Clone)]
pub struct NewBind {
    pub(super) spec: &'static KindSpec,
    pub(super) flags: FlagMask,
    pub(super) mask: Arc<str>,
    pub(super) options: BindOptions,
    pub(super) usage: Option<Usage>,
    pub(super) handler: Arc<dyn Handler>,
}

/// A bind in a table.
pub struct Bind {
    /// Its number.
    pub id: BindId,
    /// Its mask; Eggdrop's `lastbind`.
    pub mask: Arc<str>,
    /// What it asks of the person.
    pub flags: FlagMask,
    /// The rest of what was said about it.
    pub options: BindOptions,
    /// Where replies to events of no channel go.
    pub to: Option<Arc<str>>,
    /// The grammar of its arguments.
    pub usage: Option<Usage>,
    /// What it calls.
    pub handler: Arc<dyn Handler>,
    /// Whose it is: a script's name, `rust`, `builtin`.
    pub owner: Arc<str>,
    pub(super) spec: &'static KindSpec,
    hits: AtomicU64,
    running: AtomicU64,
}

/// A call of a bind that runs; it has ended when this is dropped.
#[derive(Debug)]
pub struct Turn {
    bind: Arc<Bind>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.bind.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl NewBind {
    /// Checks everything about a bind.
    pub fn parse(
        kinds: &Kinds,
        kind: &str,
        flags: &str,
        mask: &str,
        options: BindOptions,
        handler: Arc<dyn Handler>,
    ) -> Result<NewBind, BindFault> {
        // Eggdrop's own log and the logs that are read share their name; no log that is read is called as a mask of that begins.
        let own_log = kind == Kind::Log.name() && mask.starts_with(['*', '#', '&', '?', '%', '~']);
        let spec =
            kinds.get("putlog").filter(|_| own_log).or_else(|| kinds.get(kind)).ok_or_else(|| BindFault::Kind {
                name: kind.to_owned(),
                suggestion: closest(kind, kinds.all().map(|spec| spec.kind.name())).map(str::to_owned),
            })?;
        let asked = FlagMask::parse(flags).map_err(|fault| BindFault::Flags { text: flags.to_owned(), fault })?;
        if spec.flags == FlagScope::Nobody && !asked.is_open() {
            return Err(BindFault::NobodysFlags { text: flags.to_owned(), kind: spec.kind });
        }
        if spec.flags == FlagScope::Global && asked.asks_of_channels() {
            return Err(BindFault::GlobalFlags { text: flags.to_owned(), kind: spec.kind });
        }
        (spec.check)(mask).map_err(|fault| BindFault::Mask { text: mask.to_owned(), fault })?;
        check_options(spec, mask, &options)?;
        let usage = match &options.usage {
            None => None,
            Some(text) => Some(Usage::parse(text).map_err(|fault| BindFault::Usage { text: text.clone(), fault })?),
        };
        Ok(NewBind { spec, flags: asked, mask: Arc::from(mask), options, usage, handler })
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.spec.kind
    }

    /// Its mask.
    pub fn mask(&self) -> &str {
        &self.mask
    }
}

fn check_options(spec: &KindSpec, mask: &str, options: &BindOptions) -> Result<(), BindFault> {
    let fault = |name, message: &str| Err(BindFault::Option { name, message: message.to_owned() });
    let command = spec.matching == Matching::Word;
    if options.usage.is_some() && !command {
        return fault("usage", "only commands (pub, msg) have arguments");
    }
    if !options.aliases.is_empty() && !command {
        return fault("aliases", "only commands (pub, msg) have other words");
    }
    for alias in &options.aliases {
        (spec.check)(alias)
            .map_err(|fault| BindFault::Option { name: "aliases", message: format!("{alias:?}, {fault}") })?;
    }
    if options.cooldown != Cooldown::default() && spec.flags == FlagScope::Nobody {
        return fault("cooldown", "nobody stands behind this kind of event");
    }
    if let Some(wants) = spec.wants {
        wants(mask).map_err(|fault| BindFault::Mask { text: mask.to_owned(), fault })?;
    }
    let schedule = spec.matching == Matching::Named;
    if !schedule && options.tz.is_some() {
        return fault("tz", "only schedules (time, cron) have a zone");
    }
    if !schedule && options.missed != Missed::Skip {
        return fault("missed", "only schedules (time, cron) have missed runs");
    }
    if !schedule && options.overlap {
        return fault("overlap", "only schedules (time, cron) overlap");
    }
    if let Some(tz) = &options.tz
        && tz.parse::<chrono_tz::Tz>().is_err()
    {
        return fault("tz", &format!("{tz:?} is not a zone; write an IANA name such as Europe/Lisbon"));
    }
    if spec.matching != Matching::Journal && options.delivery != DeliveryOptions::default() {
        let name = "max_attempts, backoff, conc, order, on_crash";
        return fault(
            name,
            "only events that pass the journal (webhook, file, stream, log, metric, rest, database) are delivered",
        );
    }
    if options.delivery.max_attempts == 0 || options.delivery.conc == 0 {
        return fault("max_attempts, conc", "must be at least 1");
    }
    if options.acts != Acts::Usual && spec.flags != FlagScope::Nobody {
        return fault("acts", "somebody stands behind this kind of event, and the bot that acts there answers them");
    }
    if matches!(&options.acts, Acts::On(network) if network.trim().is_empty() || network.contains(['/', '#', ' '])) {
        return fault("acts", "name a network, as in \"libera\", or \"all\" bots");
    }
    if options.to.is_some() && spec.flags != FlagScope::Nobody {
        return fault("to", "somebody stands behind this kind of event, and replies go to them");
    }
    if options.to.as_deref().is_some_and(|to| to.trim().is_empty() || to.contains([' ', ','])) {
        return fault("to", "name a channel or a nick, as in \"#ops\" or \"libera/#ops\"");
    }
    if options.timeout.is_some_and(|timeout| timeout.is_zero()) {
        return fault("timeout", "must be longer than nothing");
    }
    Ok(())
}

impl Bind {
    pub(super) fn new(id: BindId, owner: &Arc<str>, new: NewBind) -> Bind {
        Bind {
            id,
            mask: new.mask,
            flags: new.flags,
            to: new.options.to.as_deref().map(Arc::from),
            options: new.options,
            usage: new.usage,
            handler: new.handler,
            owner: Arc::clone(owner),
            spec: new.spec,
            hits: AtomicU64::new(0),
            running: AtomicU64::new(0),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.spec.kind
    }

    /// Its kind's row.
    pub fn spec(&self) -> &'static KindSpec {
        self.spec
    }

    /// What people type to call it; the mask where they do not.
    pub fn word(&self) -> &str {
        &self.mask
    }

    /// Who wrote its handler: `deploy.lua:12`.
    pub fn origin(&self) -> String {
        self.handler.origin()
    }

    /// Which version of it this is; empty where it is the program's.
    pub fn version(&self) -> String {
        self.handler.version()
    }

    /// The right to run one more call of it, if fewer than `most` run.
    pub fn turn(self: &Arc<Bind>, most: u64) -> Option<Turn> {
        let free = |running| (running < most).then_some(running + 1);
        self.running.fetch_update(Ordering::AcqRel, Ordering::Acquire, free).ok()?;
        Some(Turn { bind: Arc::clone(self) })
    }

    /// It is called.
    pub fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was called.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// The words it answers to, aliases too.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.mask).chain(self.options.aliases.iter().map(String::as_str))
    }
}

impl std::fmt::Debug for Bind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:?} of {}", self.kind(), self.flags, self.mask, self.owner)
    }
}

impl std::fmt::Debug for NewBind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:?}", self.spec.kind, self.flags, self.mask)
    }
}
