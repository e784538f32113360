//! Lines about runs as mail: handed to a program one after the other, tried again while it does not take them.

use std::time::Duration;

use chrono::DateTime;
use tokio::sync::mpsc;

use super::run::Millis;
use super::settings::Mails;
use crate::executors::Mail;

/// What the name of a list begins with where a pipeline is announced: `mail:oncall`.
pub(super) const MAIL: &str = "mail:";
/// Messages that wait.
const DEPTH: usize = 1024;
/// How often a message is tried.
const TRIES: u32 = 6;
/// The first wait between two tries; each is twice the one before.
const FIRST: Duration = Duration::from_secs(5);

/// A message for this list, if there is one of that name.
pub(super) fn mail(settings: &Mails, target: &str, key: &str, text: &str, at: Millis) -> Option<Mail> {
    let to = settings.lists.get(target.strip_prefix(MAIL)?)?.clone();
    Some(Mail {
        program: settings.program.clone(),
        from: settings.from.clone(),
        to,
        subject: text.to_owned(),
        text: text.to_owned(),
        key: key.to_owned(),
        at: DateTime::from_timestamp_millis(at).unwrap_or_default(),
    })
}

/// A task that sends messages, one after the other. It ends when nobody hands it any.
pub(super) fn mailer() -> mpsc::Sender<Mail> {
    let (to, mut from) = mpsc::channel::<Mail>(DEPTH);
    tokio::spawn(async move {
        while let Some(mail) = from.recv().await {
            let mut wait = FIRST;
            for left in (0..TRIES).rev() {
                match mail.send().await {
                    Ok(()) => break,
                    Err(fault) if left > 0 => {
                        tracing::info!(%fault, "A line about a run is not taken as mail yet; it is tried again");
                        tokio::time::sleep(wait).await;
                        wait *= 2;
                    }
                    Err(fault) => {
                        tracing::warn!(key = %mail.key, %fault, "A line about a run was not taken as mail; it is given up")
                    }
                }
            }
        }
    });
    to
}
