//! Which apps a word is about: what a script may say it of goes by that.

use super::said::numbered;
use super::times::split;
use super::{Verb, row};
use crate::pipelines::handle::Pipelines;
use crate::pipelines::refusal::Refusal;
use crate::pipelines::words;

impl Pipelines {
    /// The apps that a word and what stands behind it are about. None: it shows what there is, of whatever app.
    pub async fn about(&self, word: &str, text: &str) -> Result<Vec<String>, Refusal> {
        let (_, usage, _, verb) = row(word)?;
        let (first, rest) = split(text.trim());
        let app = |place: &str| place.split('/').next().unwrap_or("").to_owned();
        let of_run = matches!(word.trim_start_matches('!'), "run" | "diff" | "tail");
        Ok(match verb {
            Verb::Look if of_run => vec![self.app_of(first, usage).await?],
            Verb::Look => Some(app(first)).filter(|app| self.catalog().get(app).is_ok()).into_iter().collect(),
            Verb::Deploy | Verb::Override | Verb::Lock | Verb::Unlock | Verb::Break => vec![app(first)],
            Verb::At => {
                let (_, typed) = text.split_once("deploy ").ok_or_else(|| Refusal::wrong(words::written(usage)))?;
                vec![app(split(typed.trim()).0)]
            }
            Verb::Freeze | Verb::Thaw => match first.split_once('/') {
                Some((app, _)) => vec![app.to_owned()],
                None => {
                    let catalog = self.catalog();
                    let there = catalog.all().filter(|pipeline| first == "*" || pipeline.rules(first).is_some());
                    there.map(|pipeline| pipeline.app.clone()).collect()
                }
            },
            Verb::Unbook => {
                let id = format!("B-{}", first.trim_start_matches("B-"));
                let all = self.booked().await;
                let found = all.iter().find(|line| line.split(' ').next() == Some(id.as_str()));
                found.and_then(|line| line.split(' ').nth(1)).map(str::to_owned).into_iter().collect()
            }
            Verb::Log if first == "amend" => {
                let id = split(rest).0.trim_start_matches("L-").parse().map_err(|_| Refusal::wrong(words::AMEND))?;
                let row = self.records().incident(id).await?;
                vec![row.ok_or_else(|| Refusal::unknown(words::no_incident(id)))?.app]
            }
            Verb::Log => vec![app(first)],
            Verb::Rollback | Verb::Queue if numbered(first).is_none() => vec![app(first)],
            _ => vec![self.app_of(first, usage).await?],
        })
    }

    async fn app_of(&self, number: &str, usage: &str) -> Result<String, Refusal> {
        let number = numbered(number).ok_or_else(|| Refusal::wrong(words::written(usage)))?;
        let found = self.run(number).await?;
        found.map(|(run, _)| run.app).ok_or_else(|| Refusal::unknown(words::no_such_run(number)))
    }
}
