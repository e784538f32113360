//! The words that only look, and who may: by the same flags as who acts, where what is shown is not told to everybody anyway.

use super::said::numbered;
use super::times::{DAY, HOUR, duration, since, split};
use crate::pipelines::catalog::Catalog;
use crate::pipelines::engine::May;
use crate::pipelines::handle::Pipelines;
use crate::pipelines::refusal::Refusal;
use crate::pipelines::run::{Asker, Run, StageRun};
use crate::pipelines::words;
use crate::store::runs::Which;

/// Lines of a log in private, at most: with the one above them twenty.
const TAIL: usize = 19;
/// Rows of a list in a channel, at most.
const ROWS: u32 = 10;

/// Whether somebody may look at this where they are. Words about a run are judged by the place that stands in its stead.
pub(super) fn permits(catalog: &Catalog, word: &str, text: &str, (who, may): (&Asker, &May)) -> Result<(), Refusal> {
    let first = split(text.trim()).0;
    if of_all(word.trim_start_matches('!')) || first.is_empty() {
        return catalog.permits_any_look(who, may);
    }
    let (app, env) = first.split_once('/').unwrap_or((first, ""));
    catalog.permits_looking(app, who, may)?;
    if word.ends_with("tail") && !env.is_empty() { catalog.permits_acting(app, env, may) } else { Ok(()) }
}

/// Whether a word is about no app.
fn of_all(word: &str) -> bool {
    matches!(word, "whatson" | "booked" | "slots" | "runners" | "apps")
}

impl Pipelines {
    /// What somebody sees who says one of the words that only look: `who`, `shop`.
    pub(super) async fn look(
        &self,
        (word, usage): (&str, &str),
        text: &str,
        (who, may): (&Asker, &May),
    ) -> Result<Vec<String>, Refusal> {
        let ((first, rest), now, catalog) = (split(text), self.now(), self.catalog());
        if matches!(word, "run" | "diff" | "tail") {
            let number = numbered(first).ok_or_else(|| Refusal::wrong(words::written(usage)))?;
            return self.look_at_run(word, (number, rest), (who, may)).await;
        }
        let app = first.split_once('/').map_or(first, |(app, _)| app);
        if of_all(word) {
            catalog.permits_any_look(who, may)?;
        } else {
            catalog.permits_looking(app, who, may)?;
        }
        let shows = |app: &str| catalog.permits_looking(app, who, may).is_ok();
        Ok(match word {
            "who" => vec![words::who(first, &self.places(first).await?, now)],
            "whatson" => {
                let (env, time) = match duration(first) {
                    Some(time) => (None, Some(time)),
                    None => (Some(first).filter(|env| !env.is_empty()), duration(rest)),
                };
                vec![self.whatson(env, time.unwrap_or(HOUR), &shows).await?]
            }
            "deploys" => self.look_at_runs(first, rest).await?,
            "queue" => self.queue(first).await?,
            "sal" | "log" => {
                let rows = self.logged(app, since(now, rest, DAY), ROWS).await?;
                vec![words::incidents(app, &rows)]
            }
            "dora" => vec![self.dora(first, since(now, rest, 30 * DAY)).await?.to_string()],
            "predict" => {
                let env = Some(rest).filter(|env| !env.is_empty());
                words::predicted(&self.predict(first, env, &who.handle).await?)
            }
            "flaky" => self.flaky(first, since(now, rest, 30 * DAY)).await?,
            "booked" => {
                let mut all = self.booked().await;
                let app = |line: &str| line.split(' ').nth(1).unwrap_or("").to_owned();
                all.retain(
                    |line| if first.is_empty() { shows(&app(line)) } else { app(line) == first && shows(first) },
                );
                vec![words::booked_all(&all)]
            }
            "slots" => vec![self.slots().await.join(" | ")],
            "runners" => words::runners(&self.runners().await.0, now),
            _ => vec![words::apps(catalog.all().filter(|pipeline| shows(&pipeline.app)))],
        })
    }

    /// A run that somebody may look at where they are.
    async fn seen(&self, number: i64, who: &Asker, may: &May) -> Result<(Run, Vec<StageRun>), Refusal> {
        let Some((run, stages)) = Pipelines::run(self, number).await? else {
            // Who may look at nothing is not told how many there are.
            self.catalog().permits_any_look(who, may)?;
            return Err(Refusal::unknown(words::no_such_run(number)));
        };
        self.catalog().permits_looking_at(&run, who, may)?;
        Ok((run, stages))
    }

    async fn look_at_run(
        &self,
        word: &str,
        (number, rest): (i64, &str),
        (who, may): (&Asker, &May),
    ) -> Result<Vec<String>, Refusal> {
        let (run, stages) = self.seen(number, who, may).await?;
        Ok(match word {
            "run" => words::run(&run, &stages, self.left(run.number).await, self.now()),
            "diff" => words::diff(&self.with_commits(run).await),
            _ => {
                // A log shows more than what became of it: it is for who asked for the run, and for those who may deploy there.
                let flags = self.catalog().get(&run.app)?.rules(&run.env).map(|rules| rules.flags);
                let may_there = flags.is_some_and(|flags| may.has(flags.as_ref()));
                let own = may.vouched && who.handle == run.asker.handle;
                if !may_there && !own {
                    return Err(Refusal::denied(words::no_log(&run)));
                }
                let stage = Some(rest).filter(|rest| !rest.is_empty());
                let (stage, lines) = self.tail(run.number, stage, TAIL).await?;
                words::tail(&run, &stage, &lines)
            }
        })
    }

    async fn look_at_runs(&self, app: &str, rest: &str) -> Result<Vec<String>, Refusal> {
        let pipeline = self.catalog().get(app)?;
        let (env, count) = match split(rest) {
            (word, "") if word.parse::<u32>().is_ok() => ("", word),
            (env, count) => (env, count),
        };
        let env = Some(env).filter(|env| !env.is_empty());
        if let Some(env) = env.filter(|env| pipeline.rules(env).is_none()) {
            return Err(Refusal::unknown(words::no_environment(app, env)));
        }
        let limit = count.parse().unwrap_or(3).clamp(1, ROWS);
        let which = Which { app: Some(app.to_owned()), env: env.map(str::to_owned), limit, ..Which::default() };
        let rows = self.list(which).await?;
        Ok(vec![words::deploys(app, env, &rows, self.settings().link.as_deref(), self.now())])
    }
}
