//! Answers that handlers give to whoever posted.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

/// Answers that came before anybody waited for them, at most.
const EARLY_MAX: usize = 1024;

/// What a handler answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status, 200 to 599.
    pub status: u16,
    /// The type of the body.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

/// Who waits for an answer, and who has given one, by the event's number. Cheap to clone.
#[derive(Clone, Default)]
pub struct Answers {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    /// A handler may be faster than we are in waiting for it.
    early: VecDeque<(u64, Answer)>,
    /// Posts on whose routes answers are waited for, and whose number is not known yet.
    expected: usize,
}

/// Says that an answer will be waited for; early ones are kept meanwhile.
pub(super) struct Expecting {
    answers: Answers,
    /// What is waited for.
    number: Option<u64>,
}

impl Answers {
    /// Gives an answer; whether somebody waits for one, or will.
    pub fn give(&self, number: u64, answer: Answer) -> bool {
        let mut inner = self.lock();
        match inner.waiting.remove(&number) {
            // Whoever waited may have given up this moment.
            Some(waiting) => waiting.send(answer).is_ok(),
            None if inner.expected > 0 => {
                inner.early.push_back((number, answer));
                if inner.early.len() > EARLY_MAX {
                    inner.early.pop_front();
                }
                true
            }
            None => false,
        }
    }

    pub(super) fn expect(&self) -> Expecting {
        self.lock().expected += 1;
        Expecting { answers: self.clone(), number: None }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Expecting {
    /// The answer to this event, if it comes in time.
    pub(super) async fn wait(mut self, number: u64, most: Duration) -> Option<Answer> {
        let (to, from) = oneshot::channel();
        {
            let mut inner = self.answers.lock();
            if let Some(at) = inner.early.iter().position(|(early, _)| *early == number) {
                return inner.early.remove(at).map(|(_, answer)| answer);
            }
            inner.waiting.insert(number, to);
        }
        self.number = Some(number);
        tokio::time::timeout(most, from).await.ok().and_then(Result::ok)
    }
}

impl Drop for Expecting {
    fn drop(&mut self) {
        let mut inner = self.answers.lock();
        if let Some(number) = self.number {
            // Also if whoever posted has hung up.
            inner.waiting.remove(&number);
        }
        inner.expected = inner.expected.saturating_sub(1);
        if inner.expected == 0 {
            inner.early.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer {
        Answer { status: 200, content_type: "text/plain".to_owned(), body: body.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_reaches_whoever_waits_early_or_late_and_nobody_else() {
        let answers = Answers::default();
        assert!(!answers.give(1, answer("nobody asked")));
        let expecting = answers.expect();
        assert!(answers.give(2, answer("early")));
        assert_eq!(expecting.wait(2, Duration::from_secs(1)).await, Some(answer("early")));
        let expecting = answers.expect();
        let giving = {
            let answers = answers.clone();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                answers.give(3, answer("late"))
            })
        };
        assert_eq!(expecting.wait(3, Duration::from_secs(1)).await, Some(answer("late")));
        assert!(giving.await.unwrap());
        assert_eq!(answers.expect().wait(4, Duration::from_secs(1)).await, None);
        assert!(!answers.give(4, answer("too late")));
    }
}
