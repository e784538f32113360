//! What a command is given: who asks, with what words, and the desk with everything it may look at.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use masterchief_contract::{Action, CaseMap, Event, FlagScope, Future, HandlerError, How, Outlet, user_error};

use crate::dispatch::{Ban, BindTable, Held, Pass};
use crate::journal::{FeedRow, Journal};
use crate::mesh::Mesh;
use crate::partyline::party::{NETWORK, Party};
use crate::partyline::settings::Settings;
use crate::pipelines::Pipelines;
use crate::store::Store;
use crate::users::{Book, FlagMask, Standing, User};

/// What commands may look at and act on.
pub struct Desk {
    /// The room.
    pub party: Party,
    /// The people.
    pub book: Book,
    /// The records.
    pub store: Store,
    /// The binds.
    pub table: BindTable,
    /// What came from outside.
    pub journal: Journal,
    /// The pipelines.
    pub pipelines: Pipelines,
    /// Where words for networks go.
    pub outlet: Arc<dyn Outlet>,
    /// How the partyline is configured.
    pub settings: Arc<ArcSwap<Settings>>,
    /// The bot around it.
    pub host: Arc<dyn Host>,
}

/// What commands ask of the bot that the rooms below cannot answer.
pub trait Host: Send + Sync + 'static {
    /// How it is doing, in lines.
    fn status(&self) -> Future<Vec<String>>;
    /// The networks, in lines.
    fn networks(&self) -> Vec<crate::irc::Status>;
    /// The members of a channel of a network.
    fn members(&self, network: &str, channel: &str) -> Vec<crate::irc::Member>;
    /// What this bot is made of, in lines.
    fn modules(&self) -> Vec<String>;
    /// The scripts, in lines.
    fn scripts(&self) -> Future<Vec<String>>;
    /// Loads a script anew, or all of them.
    fn reload(&self, name: Option<String>) -> Future<Result<Vec<String>, String>>;
    /// Reads the configuration anew; what came of it, in lines.
    fn rehash(&self) -> Future<Result<Vec<String>, String>>;
    /// Ends the bot, or lets whoever looks after it start it again.
    fn end(&self, reason: &str) -> Result<(), String>;
    /// How the sources are doing.
    fn sources(&self) -> Vec<FeedRow>;
    /// Who may what, and the table of it that has to hold, in lines.
    fn policy(&self) -> Vec<String>;
    /// Writes a record over the one of that handle, which is still `before`; nobody has the handle if that is none. Otherwise somebody has
    /// changed it meanwhile, and nothing is written.
    fn put_user(&self, before: Option<Arc<User>>, user: User) -> Future<Result<(), String>>;
    /// A record, which is still `old`, has another handle, in one step.
    fn rename_user(&self, old: &User, user: User) -> Future<Result<(), String>>;
    /// Removes a record, which is still this one.
    fn remove_user(&self, user: &User) -> Future<Result<(), String>>;
    /// Forgets the key with which a bot signs what it tells of people and incidents.
    fn forget_key(&self, bot: &str) -> Future<Result<bool, String>>;
    /// Other bots, where a mesh is configured.
    fn mesh(&self) -> Option<Mesh>;
    /// All bans that are kept, the oldest first.
    fn bans(&self) -> Vec<Ban>;
    /// Keeps a ban and holds everybody to it; replaces the one of that mask and place.
    fn put_ban(&self, ban: Ban) -> Future<Result<(), String>>;
    /// Lifts a ban of a place, or one that counts everywhere; whether there was one.
    fn lift_ban(&self, place: Option<String>, mask: &str) -> Future<Result<bool, String>>;
    /// Who may come in although others may not, the oldest first.
    fn passes(&self) -> Vec<Pass>;
    /// Keeps one of them; replaces the one of that sort, mask and place.
    fn put_pass(&self, pass: Pass) -> Future<Result<(), String>>;
    /// The networks that one is for and that have no such list.
    fn without_list(&self, pass: &Pass) -> Vec<String>;
    /// Forgets one of them.
    fn lift_pass(&self, pass: Pass) -> Future<Result<(), String>>;
    /// What a place (`network/#channel`) is held to.
    fn held(&self, place: &str) -> Held;
    /// Keeps what a place is held to, and holds it to that.
    fn hold(&self, place: &str, held: Held) -> Future<Result<(), String>>;
    /// A note for somebody on another bot is in the records: it is sent as soon as that bot is linked.
    fn notes_go(&self);
    /// Tells binds of kind `evnt` of something that has a name, and gives them a second for it.
    fn announce(&self, name: &'static str) -> Future<()>;
    /// Since when the bot runs.
    fn started(&self) -> chrono::DateTime<chrono::Utc>;
}

/// A command that was given.
pub(super) struct Asked {
    /// Everything there is.
    pub(super) desk: Arc<Desk>,
    /// The event, with the arguments.
    pub(super) event: Event,
    /// Who asks.
    pub(super) standing: Standing,
    /// Their session, where they are on the partyline.
    pub(super) idx: Option<u32>,
    /// The record that was looked at last: what is written is made of it.
    read: Mutex<Option<Arc<User>>>,
}

impl Asked {
    pub(super) fn new(desk: Arc<Desk>, event: Event) -> Asked {
        let standing = desk.book.recognise(event.actor.as_ref(), &event.network, event.casemap);
        let idx = event.field("idx").and_then(|idx| idx.as_u64()).and_then(|idx| u32::try_from(idx).ok());
        let idx = idx.filter(|_| event.network.as_ref() == NETWORK);
        Asked { desk, event, standing, idx, read: Mutex::default() }
    }

    /// An argument as it was written; empty where it is missing.
    pub(super) fn arg(&self, name: &str) -> &str {
        self.event.arg_str(name)
    }

    /// What is written down nowhere.
    pub(super) fn secret(&self) -> String {
        String::from_utf8_lossy(&self.event.body).into_owned()
    }

    /// The handle of who asks.
    pub(super) fn handle(&self) -> &str {
        self.standing.who.handle.as_deref().unwrap_or("*")
    }

    /// Whether who asks has these flags, everywhere or in one channel of a network.
    pub(super) fn may(&self, flags: &str, place: Option<(&str, &str)>) -> bool {
        let Ok(mask) = FlagMask::parse(flags) else { return false };
        let (network, chan) = place.map_or((NETWORK, None), |(network, chan)| (network, Some(chan)));
        self.standing.allows(&mask, FlagScope::Channel, network, chan, CaseMap::Rfc1459)
    }

    /// The session of who asks; a command that changes it has no meaning elsewhere.
    pub(super) fn session(&self) -> Result<u32, HandlerError> {
        self.idx.ok_or_else(|| user_error("that is for sessions of the partyline; log in there first"))
    }

    /// A record by its handle.
    pub(super) fn user(&self, handle: &str) -> Result<User, HandlerError> {
        self.read(handle).ok_or_else(|| user_error(format!("there is no {handle}; .match * lists everybody")))
    }

    fn read(&self, handle: &str) -> Option<User> {
        let user = self.desk.book.get(handle);
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&user);
        user.map(|user| User::clone(&user))
    }

    /// The record of who asks.
    pub(super) fn record(&self) -> Result<User, HandlerError> {
        self.read(self.handle()).ok_or_else(|| user_error("you have no record here; .+user and .chpass make one"))
    }

    /// A record that who asks may change: nobody changes somebody above.
    pub(super) fn user_below(&self, handle: &str) -> Result<User, HandlerError> {
        let user = self.user(handle)?;
        let (global, _) = self.standing.flags(NETWORK, None, CaseMap::Rfc1459);
        if rank(global) < rank(self.desk.book.stands(&user.handle)) {
            return Err(user_error(format!("{} stands above you; ask an owner", user.handle)));
        }
        Ok(user)
    }

    /// Writes a record: that which was looked at last, changed, or a new one.
    pub(super) async fn put(&self, user: User) -> Result<(), HandlerError> {
        let before = self.read.lock().unwrap_or_else(PoisonError::into_inner).take();
        let before = before.filter(|before| before.handle.eq_ignore_ascii_case(&user.handle));
        self.desk.host.put_user(before, user).await.map_err(user_error)
    }

    /// Writes a record with a setting changed, or without it.
    pub(super) async fn put_setting(
        &self,
        mut user: User,
        name: &str,
        value: Option<String>,
    ) -> Result<(), HandlerError> {
        match value {
            Some(value) => user.settings.insert(name.to_owned(), value),
            None => user.settings.remove(name),
        };
        self.put(user).await
    }

    /// Says something on a network.
    pub(super) async fn say(&self, place: &str, text: &str, how: How) -> Result<(), HandlerError> {
        let (network, target) = masterchief_contract::split_place(place);
        let say = Action::Say {
            network: network.to_owned(),
            target: target.to_owned(),
            text: text.to_owned(),
            how,
            reply: true,
        };
        self.desk.outlet.perform(say).await.map_err(|refused| user_error(refused.message))
    }
}

/// How high somebody stands: owners, masters, botnet masters, everybody else.
pub(super) fn rank(flags: crate::users::FlagSet) -> u8 {
    [('n', 3), ('m', 2), ('t', 1)].into_iter().find(|(flag, _)| flags.has(*flag)).map_or(0, |(_, rank)| rank)
}
