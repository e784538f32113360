//! What operators ask of whoever runs the process, and what they hear of it.

use std::time::Duration;

use tokio::sync::watch;

use super::started::Started;

/// How long whoever asked waits to hear what came of it.
const HEARD: Duration = Duration::from_secs(10);

/// What an operator asked of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wish {
    /// Nothing.
    #[default]
    None,
    /// To read the configuration anew, and to say with [`Started::rehashed`] what came of it.
    Rehash,
    /// To end.
    End,
}

/// The wishes of one bot, counted, and what came of them.
#[derive(Clone, Debug)]
pub(super) struct Wishes {
    wished: watch::Sender<(u64, Wish)>,
    /// Up to which wish it was done, and what came of it.
    rehashed: watch::Sender<(u64, Rehashed)>,
}

/// What of the configuration does not count now, a sentence each; or what is wrong with it, so that nothing of it is taken.
type Rehashed = Result<Vec<String>, Vec<String>>;

impl Default for Wishes {
    fn default() -> Wishes {
        Wishes { wished: watch::Sender::default(), rehashed: watch::Sender::new((0, Ok(Vec::new()))) }
    }
}

impl Wishes {
    pub(super) fn end(&self) -> Result<(), String> {
        self.wish(Wish::End).map(drop)
    }

    /// Has the configuration read anew; gives what came of it.
    pub(super) async fn rehash(&self) -> Result<Vec<String>, String> {
        let mut outcome = self.rehashed.subscribe();
        let number = self.wish(Wish::Rehash)?;
        let done = outcome.wait_for(|(done, _)| *done >= number);
        let Ok(Ok(outcome)) = tokio::time::timeout(HEARD, done).await else {
            return Ok(vec!["The configuration is read anew; the log tells what came of it (.console +o).".to_owned()]);
        };
        match &outcome.1 {
            Ok(told) => {
                let taken = "The configuration is taken; data, scripts.folder and log count from the next start.";
                Ok([taken.to_owned()].into_iter().chain(told.iter().map(|one| format!("But {one}."))).collect())
            }
            Err(faults) => {
                let faults = faults.join("; ");
                Err(format!("the configuration is not taken and the one before stays: {faults}; mend it and .rehash"))
            }
        }
    }

    /// The number of the wish.
    fn wish(&self, wish: Wish) -> Result<u64, String> {
        if self.wished.receiver_count() == 0 {
            return Err("whoever runs this bot takes no wishes; ask them".to_owned());
        }
        let (mut number, mut ends) = (0, false);
        self.wished.send_modify(|(count, last)| {
            *count += 1;
            // Whoever follows sees the last one only: nothing comes after the end.
            ends = *last == Wish::End;
            (number, *last) = (*count, if ends { Wish::End } else { wish });
        });
        if ends && wish != Wish::End { Err("the bot is ending".to_owned()) } else { Ok(number) }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<(u64, Wish)> {
        self.wished.subscribe()
    }
}

impl Started {
    /// What operators wish of whoever runs the process: each has a number.
    pub fn wishes(&self) -> watch::Receiver<(u64, Wish)> {
        self.partyline.wishes.subscribe()
    }

    /// Says what came of a [`Wish::Rehash`] and those before it: its number, and what [`Started::reconfigure`] gave; or what is wrong with
    /// the configuration, a sentence each, where it was not taken. Whoever typed it is told.
    pub fn rehashed(&self, number: u64, outcome: Result<Vec<String>, Vec<String>>) {
        drop(self.partyline.wishes.rehashed.send_replace((number, outcome)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_wished_hears_what_came_of_it() {
        let wishes = Wishes::default();
        assert!(wishes.rehash().await.unwrap_err().contains("takes no wishes"));
        let mut wished = wishes.subscribe();
        let mut done = |outcome: Rehashed| {
            let (number, wish) = *wished.borrow_and_update();
            assert_eq!(wish, Wish::Rehash);
            drop(wishes.rehashed.send_replace((number, outcome)));
        };
        let words = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (told, ()) = tokio::join!(wishes.rehash(), async { done(Ok(Vec::new())) });
        assert!(told.unwrap()[0].contains("is taken"));
        let (told, ()) = tokio::join!(wishes.rehash(), async { done(Ok(words(&["x counts later"]))) });
        assert_eq!(told.unwrap()[1], "But x counts later.");
        let (told, ()) = tokio::join!(wishes.rehash(), async { done(Err(words(&["one", "two"]))) });
        assert!(told.unwrap_err().contains("not taken and the one before stays: one; two;"));
        // Who follows wishes and says nothing of them: nobody waits for ever.
        assert!(wishes.rehash().await.unwrap()[0].contains("the log tells"));
        // The last word is that it ends.
        wishes.end().unwrap();
        assert!(wishes.rehash().await.unwrap_err().contains("ending"));
        assert_eq!(wished.borrow().1, Wish::End);
    }
}
