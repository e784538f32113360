//! People shared with other MasterChiefs: what changed here is told as signed facts, what they tell changes the records here, as far
//! as is configured.

mod people;
mod rounds;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use masterchief_contract::{Clock, Shutdown};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;

use crate::bot::StartError;
use crate::bot::policy::Policy;
use crate::mesh::facts::{Fact, Key, Letters, Pins, Told};
use crate::mesh::{BotName, Call, Mesh};
use crate::store::{Store, StoreError};
use crate::users::Book;

use people::{State, of_row};

/// Under which name our key and those of others stand among what scripts keep. No script can have it.
pub(super) const KEPT: &str = "@mesh";
/// The name of our key there.
const OWN_KEY: &str = "key";
/// The name of the others'.
pub(super) const PINS: &str = "pins";
/// Bytes of facts in one call, before it is put into frames.
const BYTES: usize = 30_000;

/// What one bot asks another.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Asking {
    /// Here is what I know, in numbers: what do you know better?
    Sums {
        /// The letters that I let travel.
        letters: String,
        /// The letters that the numbers were made with.
        used: String,
        /// Those whose records you cannot change.
        above: Vec<String>,
        /// Handles behind this one are meant.
        after: String,
        /// Up to this one; all without.
        upto: Option<String>,
        /// A number for each handle.
        sums: Vec<(String, String)>,
    },
    /// Here are facts.
    Put { letters: String, facts: Vec<Fact>, keys: BTreeMap<String, String> },
}

/// What is answered.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Answer {
    /// The letters that I let travel.
    letters: String,
    /// Your numbers were made with other letters than we share: make them again.
    #[serde(default)]
    again: bool,
    /// What I know better.
    #[serde(default)]
    facts: Vec<Fact>,
    #[serde(default)]
    keys: BTreeMap<String, String>,
    /// Of whom you know better, perhaps.
    #[serde(default)]
    want: Vec<String>,
    /// There is more than fits.
    #[serde(default)]
    more: bool,
}

/// The people that are shared. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(super) struct Shared {
    inner: Arc<Inner>,
}

/// On what people are shared.
pub(super) struct Ground {
    pub(super) mesh: Mesh,
    pub(super) store: Store,
    pub(super) book: Book,
    pub(super) clock: Clock,
    /// What nobody who is taken over may break, once it is known.
    pub(super) policy: Arc<OnceLock<Policy>>,
}

struct Inner {
    mesh: Mesh,
    store: Store,
    book: Book,
    clock: Clock,
    policy: Arc<OnceLock<Policy>>,
    key: Key,
    state: Mutex<State>,
    /// Something is to be told.
    news: Notify,
}

impl Shared {
    /// Takes up what is known, and begins to tell; gives the task, which ends with `shutdown`.
    pub(super) async fn open(ground: Ground, shutdown: Shutdown) -> Result<(Shared, JoinHandle<()>), StartError> {
        let Ground { mesh, store, book, clock, policy } = ground;
        let key = own_key(&store, &clock, mesh.name()).await?;
        let mut pins = kept_pins(&store, clock.now()).await?;
        pins.take(key.origin(), &key.public(), Told::Itself);
        let mut state = State { pins, ..State::default() };
        for row in store.facts().await? {
            // What cannot be read is of another version, and stays in the store as it is.
            if let Some(fact) = of_row(row) {
                // As much as was let in before.
                let _ = state.ledger.take(fact);
            }
        }
        let inner = Inner { mesh, store, book, clock, policy, key, state: Mutex::new(state), news: Notify::new() };
        let shared = Shared { inner: Arc::new(inner) };
        let task = tokio::spawn(shared.clone().tell(shutdown));
        Ok((shared, task))
    }

    /// The letters that travel between a bot and this one, as far as this one says.
    fn letters_of(&self, bot: &BotName) -> Option<Letters> {
        let view = self.inner.mesh.view();
        let record = view.records.iter().find(|record| record.name == *bot)?;
        let share = record.settings.share.as_deref().filter(|_| !record.settings.attrs().reject)?;
        Letters::parse(share).ok()
    }

    /// Whether anything is shared with a bot.
    pub(super) fn shares_with(&self, bot: &BotName) -> bool {
        self.letters_of(bot).is_some()
    }

    /// Signs words that are no fact.
    pub(super) fn sign(&self, words: &[u8]) -> String {
        BASE64.encode(self.inner.key.sign_words(words))
    }

    /// The keys of bots, as they are known now.
    pub(super) async fn pins(&self) -> Pins {
        self.inner.state.lock().await.pins.clone()
    }

    /// Takes keys that a bot names, of bots that are heard of for the first time.
    pub(super) async fn take_keys(&self, from: &BotName, keys: &BTreeMap<String, String>) -> Result<(), StoreError> {
        let mut state = self.inner.state.lock().await;
        self.pin(&mut state, from, keys).await
    }

    /// Answers a bot that asks.
    pub(super) async fn answer(&self, call: &Call) -> Result<String, String> {
        let Some(own) = self.letters_of(&call.from) else {
            return Err(format!("people are not shared with {} here", call.from));
        };
        if !call.proven {
            return Err(format!("a bot that is not trusted stands between {} and here", call.from));
        }
        let asking: Asking = serde_json::from_str(&call.data).map_err(|fault| fault.to_string())?;
        let answer = match asking {
            Asking::Put { letters, facts, keys } => {
                let letters = own.common(Letters::parse(&letters)?);
                let taken = self.take(&call.from, facts, &keys, letters).await;
                taken.map_err(|fault| inside(&fault))?;
                Answer { letters: own.to_string(), ..Answer::default() }
            }
            Asking::Sums { letters, used, above, after, upto, sums } => {
                let letters = own.common(Letters::parse(&letters)?);
                if used != letters.to_string() {
                    Answer { letters: own.to_string(), again: true, ..Answer::default() }
                } else {
                    let page = Page { after, upto, sums: sums.into_iter().collect(), above };
                    let answer = self.compare(page, letters).await.map_err(|fault| inside(&fault))?;
                    Answer { letters: own.to_string(), ..answer }
                }
            }
        };
        serde_json::to_string(&answer).map_err(|fault| fault.to_string())
    }

    /// What is known better here, and of whom it may be known better there.
    async fn compare(&self, page: Page, letters: Letters) -> Result<Answer, StoreError> {
        let mut state = self.inner.state.lock().await;
        self.absorb(&mut state).await?;
        let (mut answer, now) = (Answer::default(), self.now());
        let mut handles = page.sums.keys().cloned().collect::<std::collections::BTreeSet<String>>();
        handles.extend(state.ledger.handles(&page.after).into_iter().filter(|handle| page.has(handle)));
        let mut bytes = 0;
        for handle in handles {
            let theirs = page.sums.get(&handle);
            let known = state.ledger.told(&handle, letters, now).next().is_some();
            if theirs.is_none() && !known || theirs.is_some_and(|sum| *sum == state.ledger.sum(&handle, letters, now)) {
                continue;
            }
            if theirs.is_some() && !state.is_above(&self.inner.book, &handle, letters) {
                answer.want.push(handle.clone());
            }
            if page.above.contains(&handle) {
                continue;
            }
            for fact in state.ledger.told(&handle, letters, now) {
                bytes += size_of_fact(fact);
                if bytes > BYTES {
                    answer.more = true;
                    break;
                }
                answer.facts.push(fact.clone());
            }
        }
        answer.keys = state.keys_of(&answer.facts);
        Ok(answer)
    }
}

/// A part of what another bot knows, in numbers.
struct Page {
    after: String,
    upto: Option<String>,
    sums: BTreeMap<String, String>,
    above: Vec<String>,
}

impl Page {
    fn has(&self, handle: &str) -> bool {
        handle > self.after.as_str() && self.upto.as_deref().is_none_or(|upto| handle <= upto)
    }
}

/// About how many bytes a fact takes in a call.
fn size_of_fact(fact: &Fact) -> usize {
    200 + fact.handle.len() + fact.name.len() + fact.value.as_deref().map_or(0, str::len) + fact.origin.len()
}

/// What another bot is told of a fault of our records.
fn inside(fault: &StoreError) -> String {
    tracing::error!(%fault, "Shared people cannot be read or written");
    "its records fail; its log says why".to_owned()
}

/// The keys of bots as they are kept.
pub(super) async fn kept_pins(store: &Store, now: DateTime<Utc>) -> Result<Pins, StoreError> {
    let kept = store.kv_get(KEPT, PINS, now).await?;
    let kept: BTreeMap<String, String> = kept.and_then(|kept| serde_json::from_value(kept).ok()).unwrap_or_default();
    Ok(Pins::of_kept(&kept))
}

/// Forgets the key of a bot, so that the next one that it tells counts; whether there was one.
pub(in crate::bot) async fn forget_key(store: &Store, origin: &str, now: DateTime<Utc>) -> Result<bool, StoreError> {
    let mut pins = kept_pins(store, now).await?;
    let had = pins.forget(origin);
    if had {
        let kept = serde_json::to_value(pins.to_kept()).unwrap_or_default();
        store.kv_set(KEPT, PINS, &kept, None).await?;
    }
    Ok(had)
}

/// The key that was made when this bot first shared anybody.
async fn own_key(store: &Store, clock: &Clock, me: &BotName) -> Result<Key, StartError> {
    let fault = |fault: crate::mesh::facts::KeyFault| StartError::Shared(fault.to_string());
    let kept = store.kv_get(KEPT, OWN_KEY, clock.now()).await?;
    if let Some(kept) = kept.as_ref().and_then(|kept| kept.as_str()) {
        let kept = BASE64.decode(kept).map_err(|bad| StartError::Shared(bad.to_string()))?;
        return Key::read(&kept, me.as_str()).map_err(fault);
    }
    let made = Key::make().map_err(fault)?;
    store.kv_set(KEPT, OWN_KEY, &BASE64.encode(&made).into(), None).await?;
    Key::read(&made, me.as_str()).map_err(fault)
}
