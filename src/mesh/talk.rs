//! What only we speak among ourselves: a call with its answer, in frames that pass through Eggdrops like any script's message.
//!
//! A frame is the text of a `z` line with the code [`CODE`]: `ID q|r PART OF BASE64`. The parts together are JSON:
//! `{"c": command, "d": data}`, and back `{"o": answer}` or `{"e": fault}`.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};

use super::name::BotName;
use super::number;

/// The code of our frames.
pub(super) const CODE: &str = "mc1";
/// Letters of a part, so that the whole line stays below what Eggdrops cut at.
const PART: usize = 360;
/// The longest data of a call or an answer, in bytes.
pub const DATA_MAX: usize = 64 * 1024;
/// The most parts of one.
const PARTS_MAX: usize = DATA_MAX * 2 / PART * 4 / 3;
/// Calls and answers of one bot whose parts are still coming.
const OPEN_MAX: usize = 32;
/// How long parts are waited for (milliseconds).
const OPEN_FOR: i64 = 30_000;

/// A call, or its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A call.
    Call { id: u32, cmd: String, data: String },
    /// Its answer, or the words of its fault.
    Answer { id: u32, result: Result<String, String> },
}

#[derive(Serialize, Deserialize)]
struct CallBody {
    c: String,
    d: String,
}

#[derive(Serialize, Deserialize)]
enum AnswerBody {
    #[serde(rename = "o")]
    Good(String),
    #[serde(rename = "e")]
    Fault(String),
}

impl Said {
    /// Its frames; nothing if it is too long.
    pub(super) fn frames(&self) -> Option<Vec<String>> {
        let (id, sort, body) = match self {
            Said::Call { id, cmd, data } => {
                (id, 'q', serde_json::to_string(&CallBody { c: cmd.clone(), d: data.clone() }))
            }
            Said::Answer { id, result: Ok(text) } => (id, 'r', serde_json::to_string(&AnswerBody::Good(text.clone()))),
            Said::Answer { id, result: Err(text) } => {
                (id, 'r', serde_json::to_string(&AnswerBody::Fault(text.clone())))
            }
        };
        let body = BASE64.encode(body.ok()?);
        let of = body.len().div_ceil(PART);
        if of > PARTS_MAX {
            return None;
        }
        let frame = |(part, text): (usize, &[u8])| {
            let text = String::from_utf8_lossy(text);
            format!(
                "{} {sort} {} {} {text}",
                number::encode(*id),
                number::encode(part as u32),
                number::encode(of as u32)
            )
        };
        Some(body.as_bytes().chunks(PART).enumerate().map(frame).collect())
    }
}

/// What came of a call or an answer so far.
struct Open {
    parts: Vec<Option<String>>,
    since: i64,
}

/// Puts frames together again. What never becomes whole is forgotten.
#[derive(Default)]
pub(super) struct Assembler {
    open: BTreeMap<(BotName, u32, char), Open>,
}

impl Assembler {
    /// Takes the text of a frame; gives what it completes.
    pub(super) fn take(&mut self, from: &BotName, text: &str, now: i64) -> Option<Said> {
        let mut words = text.split(' ');
        let id = number::decode(words.next()?);
        let sort = words.next().and_then(|word| word.chars().next()).filter(|sort| matches!(sort, 'q' | 'r'))?;
        let (part, of) = (number::decode(words.next()?) as usize, number::decode(words.next()?) as usize);
        let text = words.next()?;
        if part >= of || of > PARTS_MAX || text.len() > PART {
            return None;
        }
        self.open.retain(|_, open| now - open.since < OPEN_FOR);
        let key = (from.clone(), id, sort);
        let mine = self.open.keys().filter(|(bot, ..)| bot == from).count();
        if mine >= OPEN_MAX && !self.open.contains_key(&key) {
            return None;
        }
        let open = self.open.entry(key.clone()).or_insert_with(|| Open { parts: vec![None; of], since: now });
        *open.parts.get_mut(part)? = Some(text.to_owned());
        let body: String = open.parts.iter().cloned().collect::<Option<Vec<String>>>()?.concat();
        self.open.remove(&key);
        let body = BASE64.decode(body).ok()?;
        Some(match sort {
            'q' => {
                let CallBody { c, d } = serde_json::from_slice(&body).ok()?;
                Said::Call { id, cmd: c, data: d }
            }
            _ => {
                let result = match serde_json::from_slice(&body).ok()? {
                    AnswerBody::Good(text) => Ok(text),
                    AnswerBody::Fault(text) => Err(text),
                };
                Said::Answer { id, result }
            }
        })
    }

    /// A bot is gone, and what it was about to say.
    pub(super) fn forget(&mut self, bot: &BotName) {
        self.open.retain(|(from, ..), _| from != bot);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bot() -> BotName {
        "Other".parse().unwrap()
    }

    #[test]
    fn what_is_long_comes_in_parts_that_fit_whatever_their_order() {
        let said = Said::Call { id: 7, cmd: "deploy".to_owned(), data: "ä€\n  ".repeat(5000) };
        let mut frames = said.frames().unwrap();
        assert!(frames.iter().all(|frame| CODE.len() + 1 + frame.len() <= super::super::TEXT_MAX));
        frames.reverse();
        let mut assembler = Assembler::default();
        let last = frames.pop().unwrap();
        for frame in &frames {
            assert_eq!(assembler.take(&bot(), frame, 0), None);
        }
        assert_eq!(assembler.take(&"Else".parse().unwrap(), &last, 0), None, "another bot's part is no part of it");
        assert_eq!(assembler.take(&bot(), &last, 0), Some(said));
        assert_eq!(Said::Answer { id: 1, result: Ok("x".repeat(10 * DATA_MAX)) }.frames(), None);
    }

    #[test]
    fn parts_that_never_become_whole_are_bounded_and_forgotten() {
        let mut assembler = Assembler::default();
        for id in 0..1000 {
            assembler.take(&bot(), &format!("{} q A C x", number::encode(id)), 0);
        }
        assert_eq!(assembler.open.len(), OPEN_MAX);
        assembler.take(&bot(), "A q A C x", OPEN_FOR);
        assert_eq!(assembler.open.len(), 1);
        assembler.forget(&bot());
        assert!(assembler.open.is_empty());
    }

    proptest! {
        #[test]
        fn any_frame_is_taken_without_harm(frames in proptest::collection::vec("[A-D]( [qrx]( [A-D]( [A-D]( [a-zA-Z0-9+/]{0,8})?)?)?)?|.{0,20}", 0..40)) {
            let mut assembler = Assembler::default();
            for frame in frames {
                assembler.take(&bot(), &frame, 0);
            }
        }

        #[test]
        fn an_answer_comes_back(id: u32, good: bool, text in ".{0,600}") {
            let said = Said::Answer { id, result: if good { Ok(text) } else { Err(text) } };
            let mut assembler = Assembler::default();
            let whole = said.frames().unwrap().iter().filter_map(|frame| assembler.take(&bot(), frame, 0)).last();
            prop_assert_eq!(whole, Some(said));
        }
    }
}
