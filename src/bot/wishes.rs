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
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    wished: watch::Sender<(u64, Wish)>,
    /// Up to which wish it was done, and what is wrong with what was read.
    rehashed: watch::Sender<(u64, Vec<String>)>,
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
        match tokio::time::timeout(HEARD, done).await {
            Ok(Ok(outcome)) if outcome.1.is_empty() => Ok(vec![
                "The configuration is taken; data, scripts.folder and log count from the next start.".to_owned(),
            ]),
            Ok(Ok(outcome)) => {
                let faults = outcome.1.join("; ");
                Err(format!("the configuration is not taken and the one before stays: {faults}; mend it and .rehash"))
            }
            _ => Ok(vec!["The configuration is read anew; the log tells what came of it (.console +o).".to_owned()]),
        }
    }

    /// The number of the wish.
    fn wish(&self, wish: Wish) -> Result<u64, String> {
        if self.wished.receiver_count() == 0 {
            return Err("whoever runs this bot takes no wishes; ask them".to_owned());
        }
        let mut number = 0;
        self.wished.send_modify(|(count, last)| {
            *count += 1;
            (number, *last) = (*count, wish);
        });
        Ok(number)
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

    /// Says what came of a [`Wish::Rehash`] and those before it: its number, and what is wrong with the configuration, a sentence each;
    /// nothing where it was taken. Whoever typed it is told.
    pub fn rehashed(&self, number: u64, faults: Vec<String>) {
        self.partyline.wishes.rehashed.send_replace((number, faults));
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
        let done = |faults: &[&str]| {
            let (number, wish) = *wished.borrow_and_update();
            assert_eq!(wish, Wish::Rehash);
            wishes.rehashed.send_replace((number, faults.iter().map(ToString::to_string).collect()));
        };
        let mut done = done;
        let (told, ()) = tokio::join!(wishes.rehash(), async { done(&[]) });
        assert!(told.unwrap()[0].contains("is taken"));
        let (told, ()) = tokio::join!(wishes.rehash(), async { done(&["one", "two"]) });
        assert!(told.unwrap_err().contains("not taken and the one before stays: one; two;"));
        // Who follows wishes and says nothing of them: nobody waits for ever.
        assert!(wishes.rehash().await.unwrap()[0].contains("the log tells"));
    }
}
