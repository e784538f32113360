//! What only we speak among ourselves: a call with its answer, in frames that pass through Eggdrops like any script's message.
//!
//! A frame is the text of a `z` line with the code [`CODE`]: `ID q|r PART OF BASE64`. The parts together are JSON:
//! `{"c": command, "d": data}`, and back `{"o": answer}` or `{"e": fault}`. A frame has the size that Eggdrops pass on, or a larger one
//! where all bots on the way are of us, as their versions say.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};

use super::book::PeerId;
use super::name::BotName;
use super::number;

/// The code of our frames.
pub(super) const CODE: &str = "mc1";
/// Letters of a part, so that the whole line stays below what Eggdrops cut at.
const PART: usize = 360;
/// The same where only we read it: the line stays below [`super::line::LINE_MAX`].
const LARGE: usize = 3600;
/// The longest data of a call or an answer, in bytes.
pub const DATA_MAX: usize = 64 * 1024;
/// The most parts of one.
const PARTS_MAX: usize = DATA_MAX * 2 / PART * 4 / 3;
/// Calls and answers of one bot whose parts are still coming.
const OPEN_MAX: usize = 32;
/// The same of all bots behind one link: names cost those who make them up nothing.
const OPEN_LINK: usize = 256;
/// Bytes of parts that one link may have us keep.
const KEPT_LINK: usize = 4 << 20;
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

/// How large frames are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// An Eggdrop may be on the way.
    Small,
    /// There are only we.
    Large,
}

impl Said {
    /// Its frames; nothing if it is too long.
    pub(super) fn frames(&self, size: Size) -> Option<Vec<String>> {
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
        let room = if size == Size::Large { LARGE } else { PART };
        if body.len() > PARTS_MAX * PART {
            return None;
        }
        let of = body.len().div_ceil(room);
        let frame = |(part, text): (usize, &[u8])| {
            let text = String::from_utf8_lossy(text);
            format!(
                "{} {sort} {} {} {text}",
                number::encode(*id),
                number::encode(part as u32),
                number::encode(of as u32)
            )
        };
        Some(body.as_bytes().chunks(room).enumerate().map(frame).collect())
    }
}

/// What came of a call or an answer so far.
struct Open {
    parts: Vec<Option<String>>,
    /// Bytes that they take.
    kept: usize,
    /// Over which link.
    via: PeerId,
    since: i64,
}

/// Puts frames together again. What never becomes whole is forgotten.
#[derive(Default)]
pub(super) struct Assembler {
    open: BTreeMap<(BotName, u32, char), Open>,
}

impl Assembler {
    /// Takes the text of a frame that came over a link; gives what it completes.
    pub(super) fn take(&mut self, from: &BotName, via: PeerId, text: &str, now: i64) -> Option<Said> {
        let mut words = text.split(' ');
        let id = number::decode(words.next()?);
        let sort = words.next().and_then(|word| word.chars().next()).filter(|sort| matches!(sort, 'q' | 'r'))?;
        let (part, of) = (number::decode(words.next()?) as usize, number::decode(words.next()?) as usize);
        let text = words.next()?;
        if part >= of || of > PARTS_MAX || text.len() > LARGE {
            return None;
        }
        self.open.retain(|_, open| now - open.since < OPEN_FOR);
        let key = (from.clone(), id, sort);
        if of > 1 && !self.has_room(&key, via, text.len()) {
            return None;
        }
        let kept = of * size_of::<Option<String>>();
        let blank = || Open { parts: vec![None; of], kept, via, since: now };
        let open = self.open.entry(key.clone()).or_insert_with(blank);
        let place = open.parts.get_mut(part)?;
        open.kept += text.len() - place.as_ref().map_or(0, String::len).min(text.len());
        *place = Some(text.to_owned());
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

    /// Whether a part of so many bytes can be kept.
    fn has_room(&self, key: &(BotName, u32, char), via: PeerId, bytes: usize) -> bool {
        let of_bot = self.open.keys().filter(|(bot, ..)| *bot == key.0).count();
        let (mut of_link, mut kept) = (0, bytes);
        for open in self.open.values().filter(|open| open.via == via) {
            of_link += 1;
            kept += open.kept;
        }
        let known = self.open.contains_key(key);
        kept <= KEPT_LINK && (known || of_bot < OPEN_MAX && of_link < OPEN_LINK)
    }

    /// A bot is gone, and what it was about to say.
    pub(super) fn forget(&mut self, bot: &BotName) {
        self.open.retain(|(from, ..), _| from != bot);
    }
}

/// Each line a frame, of a few bots behind a few links.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(bytes: &[u8]) {
    let mut assembler = Assembler::default();
    for (number, line) in String::from_utf8_lossy(bytes).lines().enumerate() {
        let Ok(bot) = format!("B{}", line.len() % 5).parse() else { continue };
        let via = (line.len() % 3) as PeerId;
        if let Some(said) = assembler.take(&bot, via, line, number as i64 * 100) {
            // What was said can be said again, and is understood the same.
            let mut other = Assembler::default();
            let frames = said.frames(Size::Small).into_iter().flatten();
            let again = frames.filter_map(|frame| other.take(&bot, via, &frame, 0)).last();
            assert!(again.is_none_or(|again| again == said));
        }
        assert!(assembler.open.len() <= 3 * OPEN_LINK);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::line::LINE_MAX;
    use super::*;

    fn bot() -> BotName {
        "Other".parse().unwrap()
    }

    #[test]
    fn what_is_long_comes_in_parts_that_fit_whatever_their_order() {
        let said = Said::Call { id: 7, cmd: "deploy".to_owned(), data: "ä€\n  ".repeat(5000) };
        let mut frames = said.frames(Size::Small).unwrap();
        assert!(frames.iter().all(|frame| CODE.len() + 1 + frame.len() <= super::super::TEXT_MAX));
        frames.reverse();
        let mut assembler = Assembler::default();
        let last = frames.pop().unwrap();
        for frame in &frames {
            assert_eq!(assembler.take(&bot(), 1, frame, 0), None);
        }
        assert_eq!(assembler.take(&"Else".parse().unwrap(), 1, &last, 0), None, "another bot's part is no part of it");
        assert_eq!(assembler.take(&bot(), 1, &last, 0), Some(said.clone()));
        let large = said.frames(Size::Large).unwrap();
        assert!(large.len() * 9 < frames.len() + 9 && large.iter().all(|frame| frame.len() < LINE_MAX - 100));
        let whole = large.iter().filter_map(|frame| assembler.take(&bot(), 1, frame, 0)).last();
        assert_eq!(whole, Some(said));
        assert_eq!(Said::Answer { id: 1, result: Ok("x".repeat(10 * DATA_MAX)) }.frames(Size::Large), None);
    }

    #[test]
    fn parts_that_never_become_whole_are_bounded_and_forgotten() {
        let mut assembler = Assembler::default();
        for id in 0..1000 {
            assembler.take(&bot(), 1, &format!("{} q A C x", number::encode(id)), 0);
        }
        assert_eq!(assembler.open.len(), OPEN_MAX);
        assembler.take(&bot(), 1, "A q A C x", OPEN_FOR);
        assert_eq!(assembler.open.len(), 1);
        assembler.forget(&bot());
        assert!(assembler.open.is_empty());
    }

    #[test]
    fn names_that_are_made_up_behind_one_link_take_no_room_from_the_others() {
        let mut assembler = Assembler::default();
        let text = "x".repeat(LARGE);
        for bot in 0..100 {
            for id in 0..40 {
                let name: BotName = format!("B{bot}").parse().unwrap();
                let of = number::encode(PARTS_MAX as u32);
                assembler.take(&name, 1, &format!("{} q {} {of} {text}", number::encode(id), number::encode(id)), 0);
            }
        }
        let kept: usize = assembler.open.values().map(|open| open.kept).sum();
        assert!(assembler.open.len() <= OPEN_LINK && kept <= KEPT_LINK + PARTS_MAX * 24 * 2, "{kept}");
        let said = Said::Call { id: 1, cmd: "x".to_owned(), data: "y".repeat(2000) };
        let frames = said.frames(Size::Small).unwrap();
        let whole = frames.iter().filter_map(|frame| assembler.take(&bot(), 2, frame, 0)).last();
        assert_eq!(whole, Some(said), "another link is not harmed");
    }

    proptest! {
        #[test]
        fn any_frame_is_taken_without_harm(frames in proptest::collection::vec("[A-D]( [qrx]( [A-D]( [A-D]( [a-zA-Z0-9+/]{0,8})?)?)?)?|.{0,20}", 0..40)) {
            let mut assembler = Assembler::default();
            for frame in frames {
                assembler.take(&bot(), 1, &frame, 0);
            }
        }

        #[test]
        fn an_answer_comes_back(id: u32, good: bool, text in ".{0,600}") {
            let said = Said::Answer { id, result: if good { Ok(text) } else { Err(text) } };
            let mut assembler = Assembler::default();
            let whole = said.frames(Size::Small).unwrap().iter().filter_map(|frame| assembler.take(&bot(), 1, frame, 0)).last();
            prop_assert_eq!(whole, Some(said));
        }
    }
}
