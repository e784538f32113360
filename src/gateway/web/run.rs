//! The page of a run: its stages, what they said, who asked and why, who agreed, and what may be said to it now.
//!
//! A page is made of parts with names, so that one that follows the run is sent the parts that changed and nothing else.

use std::collections::HashMap;

use serde_json::Value;

use super::Asking;
use super::html::{Hide, Html, shown};
use super::names::looks_secret;
use crate::executors::tail;
use crate::gateway::runs::Caller;
use crate::pipelines::{Millis, Pipelines, Refusal, Run, RunState, StageRun, StageState, words};
use crate::store::runs::{ApprovalRow, AttemptRow};

/// Stages that are shown.
const STAGES: usize = 300;
/// Stages of whose logs the end is shown.
const LOGS: usize = 60;
/// Lines of it.
const LINES: usize = 30;
/// Commits that are shown.
const COMMITS: usize = 50;
/// The end of a run that is foretold is told in steps of so much, so that it does not change with every look.
const STEP: Millis = 10_000;

/// A part of a page that may change.
pub(super) struct Part {
    pub(super) id: String,
    /// Whether people fold it, and whether it is open at first.
    pub(super) folds: Option<bool>,
    pub(super) html: Html,
}

/// The ends of logs that were read already, by stage: what ended says no more.
pub(super) type Logs = HashMap<String, ((StageState, u32), Vec<String>)>;

/// All that a page of a run shows.
pub(super) struct Seen {
    pub(super) run: Run,
    stages: Vec<StageRun>,
    attempts: Vec<AttemptRow>,
    approvals: Vec<ApprovalRow>,
    left: Option<Millis>,
    /// Whether who looks may read logs: as with `!tail`, who asked for the run, and who may deploy there.
    reads: bool,
    /// Whether any word of theirs could count.
    acts: bool,
    wanted: Option<String>,
    now: Millis,
}

/// Reads what is known of a run; `logs` keeps what was read before.
pub(super) async fn look(
    pipelines: &Pipelines,
    caller: &Caller,
    number: i64,
    logs: &mut Logs,
) -> Result<Seen, Refusal> {
    let found = pipelines.run(number).await?;
    let (run, stages) = found.ok_or_else(|| Refusal::unknown(format!("there is no run {number}")))?;
    let pipeline = pipelines.catalog().get(&run.app).ok();
    let rules = pipeline.as_ref().and_then(|pipeline| pipeline.rules(&run.env));
    let mine = caller.may.vouched && caller.who.handle == run.asker.handle;
    let reads = mine || rules.is_some_and(|rules| caller.may.has(rules.flags.as_ref()));
    let asked = rules.and_then(|rules| rules.asks(run.reason.as_deref()));
    let wanted = asked.filter(|_| run.state == RunState::AwaitingApproval).map(words::wanted);
    if reads {
        read(pipelines, &run, &stages, logs).await;
    }
    Ok(Seen {
        attempts: pipelines.records().attempts(number).await?,
        approvals: pipelines.records().approvals(number).await?,
        left: if run.state.active() { pipelines.left(number).await } else { None },
        now: pipelines.now(),
        run,
        stages,
        reads,
        acts: reads || caller.may.vouched,
        wanted,
    })
}

/// The ends of the logs, of those that go on and those that failed first.
async fn read(pipelines: &Pipelines, run: &Run, stages: &[StageRun], logs: &mut Logs) {
    let mut begun: Vec<&StageRun> = stages.iter().filter(|one| one.attempt > 0).collect();
    begun.sort_by_key(|one| (one.state.ended() && !one.state.bad(), std::cmp::Reverse(one.ended)));
    begun.truncate(LOGS);
    let fresh = |one: &&&StageRun| {
        let known = logs.get(&one.name).is_some_and(|(key, _)| *key == (one.state, one.attempt));
        !(known && one.state.ended())
    };
    let wanted: Vec<_> = begun
        .iter()
        .filter(fresh)
        .map(|one| (one.name.clone(), (one.state, one.attempt), pipelines.step_folder(run.number, one)))
        .collect();
    let read = move || -> Vec<_> {
        wanted.into_iter().map(|(name, key, folder)| (name, (key, tail(&folder, LINES)))).collect()
    };
    // A reader that dies leaves what was read before.
    logs.extend(tokio::task::spawn_blocking(read).await.unwrap_or_default());
}

impl Seen {
    /// Whether more of it may be said without a word of the engine: a log grows while its stage runs.
    pub(super) fn goes_on(&self) -> bool {
        self.run.state.active() || self.run.state == RunState::RollingBack
    }

    /// What a window is called that shows it.
    pub(super) fn title(&self) -> String {
        let run = &self.run;
        format!("{} {} {} → {}", run.number, run.app, run.shown(), run.env)
    }

    pub(super) fn parts(&self, hide: &Hide, logs: &Logs) -> Vec<Part> {
        let part = |id: &str, html: Html| Part { id: id.to_owned(), folds: None, html };
        let mut parts = vec![part("head", self.head(hide)), part("words", self.offers(hide))];
        for one in self.stages.iter().take(STAGES) {
            let open = one.state.steps() || one.state.bad();
            let log = logs.get(&one.name).map(|(_, lines)| lines.as_slice()).unwrap_or_default();
            parts.push(Part {
                id: shown(hide, &format!("stage:{}", one.name)),
                folds: Some(open),
                html: self.stage(hide, one, log),
            });
        }
        if self.stages.len() > STAGES {
            let mut html = Html::new(hide);
            html.raw("<p class=\"quiet\">and ").number((self.stages.len() - STAGES) as i64).raw(" more stages</p>");
            parts.push(part("more", html));
        }
        parts.push(part("foot", self.foot(hide)));
        parts
    }

    fn head(&self, hide: &Hide) -> Html {
        let (run, mut html) = (&self.run, Html::new(hide));
        html.raw("<h1>").text(&run.app).raw(" ").text(run.shown()).raw(" → ").text(&run.env).raw(" ");
        state(&mut html, run.state.name(), run.state.plain());
        html.raw("</h1><p>Run ").number(run.number).raw(", asked for by ").text(run.asker.called());
        html.raw(" (").text(&run.asker.origin).raw(") at ").add(&self.moment(hide, run.created)).raw(".");
        if let Some(waits) = self.waits() {
            html.raw(" <strong>").text(waits).raw("</strong>");
        }
        html.raw("</p><dl>");
        let mut row = |name: &'static str, value: &str| {
            if !value.is_empty() {
                html.raw("<dt>").raw(name).raw("</dt><dd>").text(value).raw("</dd>");
            }
        };
        row("Commit", &run.sha);
        let before =
            run.before.as_ref().map(|before| if before.version.is_empty() { &before.sha } else { &before.version });
        row("Replaces", before.map_or("", String::as_str));
        row("Override", run.overrides().unwrap_or_default());
        row("Left out", &run.skipped.join(", "));
        row("Choices", &self.choices());
        let risk = run.risk.as_ref().filter(|risk| risk.useful);
        row(
            "Foretold",
            &risk
                .map(|risk| {
                    format!(
                        "fails with {:.0}% (usual {:.0}%): {}",
                        risk.risk * 100.0,
                        risk.usual * 100.0,
                        risk.reasons.join(", ")
                    )
                })
                .unwrap_or_default(),
        );
        let failed = self.stages.iter().find(|one| run.failed.as_ref() == Some(&one.name));
        let why = failed.and_then(|one| one.failure.as_ref());
        row(
            "Failed",
            &failed
                .map(|one| format!("{}{}", one.name, why.map(|why| format!(": {}", why.line)).unwrap_or_default()))
                .unwrap_or_default(),
        );
        row("State of the world", &why.map(|why| why.world.join("; ")).unwrap_or_default());
        if let Some(parent) = run.parent {
            html.raw("<dt>Undoes</dt><dd><a href=\"/r/").number(parent).raw("\">run ").number(parent).raw("</a></dd>");
        }
        html.add(&self.times(hide)).raw("</dl>");
        html
    }

    fn times(&self, hide: &Hide) -> Html {
        let (run, mut html) = (&self.run, Html::new(hide));
        match (run.started, run.finished) {
            (Some(from), Some(to)) => html.raw("<dt>Took</dt><dd>").text(words::span(to - from)).raw("</dd>"),
            (Some(from), None) => html.raw("<dt>Runs</dt><dd>").add(&self.since(hide, from)).raw("</dd>"),
            _ => &mut html,
        };
        if let Some(left) = self.left {
            let until = (self.now + left) / STEP * STEP;
            html.raw("<dt>Left</dt><dd><span data-until=\"")
                .number(until)
                .raw("\">")
                .text(words::about(left))
                .raw("</span></dd>");
        }
        html
    }

    /// A moment: for people, and for the script that says it in their own time.
    fn moment(&self, hide: &Hide, at: Millis) -> Html {
        let mut html = Html::new(hide);
        html.raw("<time data-at=\"").number(at).raw("\">").text(words::moment(at, self.now)).raw("</time>");
        html
    }

    /// The time since then, which a script keeps up.
    fn since(&self, hide: &Hide, from: Millis) -> Html {
        let mut html = Html::new(hide);
        html.raw("<span data-since=\"")
            .number(from)
            .raw("\">since ")
            .text(words::moment(from, self.now))
            .raw("</span>");
        html
    }

    /// What was chosen, without what is a secret by its name.
    fn choices(&self) -> String {
        let usual = |name: &str| name == "environment" || name == "ref";
        let chosen = self.run.params.iter().filter(|(name, _)| !usual(name));
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let one = |(name, value): (&String, &Value)| {
            format!("{name}={}", if looks_secret(name) { "***".to_owned() } else { text(value) })
        };
        chosen.map(one).collect::<Vec<_>>().join(" ")
    }

    /// What a run waits for that has not begun, or stands still.
    fn waits(&self) -> Option<String> {
        let run = &self.run;
        let until = run.due.map(|due| format!(" until {}", words::moment(due, self.now))).unwrap_or_default();
        Some(match run.state {
            RunState::Draft => format!("{} is locked: it waits only if somebody queues it.", run.place()),
            RunState::AwaitingConfirm => format!("It waits for the yes of {}{until}.", run.asker.called()),
            RunState::AwaitingApproval => {
                let wanted = self.wanted.as_deref().unwrap_or("an approval");
                format!("It needs {wanted}; the code of what is shown is {}{until}.", run.code)
            }
            RunState::Queued => "It waits for its turn.".to_owned(),
            RunState::AwaitingWindow => format!("It waits for its window{until}."),
            RunState::Paused => match &run.paused {
                Some(halt) => format!("{} holds it up.", halt.by),
                None => format!("Somebody has to decide{until}."),
            },
            _ => return None,
        })
    }

    /// What may be said to it now, a form each. The engine decides; what stands here is only what makes sense.
    fn offers(&self, hide: &Hide) -> Html {
        let (run, mut html) = (&self.run, Html::new(hide));
        if !self.acts {
            return html;
        }
        let mut offer = |word: &'static str, code: &str, label: &'static str| {
            html.raw("<form data-post=\"/r/").number(run.number).raw("/").raw(word).raw("\">");
            if word == "approve" {
                html.raw("<input type=\"hidden\" name=\"code\" value=\"").text(code).raw("\">");
            } else if word == "reject" {
                html.raw(
                    "<input name=\"reason\" required maxlength=\"200\" placeholder=\"why not\" aria-label=\"why not\">",
                );
            }
            html.raw("<button>").raw(label);
            if word == "approve" {
                html.raw(" ").text(code);
            }
            html.raw("</button></form>");
        };
        let own = self.stages.iter().filter(|one| one.state == StageState::Waiting && !one.code.is_empty());
        let codes =
            (run.state == RunState::AwaitingApproval).then_some(&run.code).into_iter().chain(own.map(|one| &one.code));
        let mut asked = false;
        for code in codes.filter(|code| !code.is_empty()) {
            offer("approve", code, "Approve");
            asked = true;
        }
        if asked {
            offer("reject", "", "Reject");
        }
        match run.state {
            RunState::Draft => offer("queue", "", "Queue behind the lock"),
            RunState::AwaitingConfirm => offer("yes", "", "Yes, start it"),
            RunState::Failed | RunState::TimedOut => {
                offer("retry", "", "Retry");
                offer("rollback", "", "Roll back");
            }
            _ => {}
        }
        if !run.state.ended() && run.state != RunState::RollingBack {
            offer("abort", "", "Abort");
        }
        html
    }

    fn stage(&self, hide: &Hide, one: &StageRun, log: &[String]) -> Html {
        let mut html = Html::new(hide);
        html.raw("<summary><span class=\"name\">").text(&one.name).raw("</span> ");
        state(&mut html, one.state.name(), one.state.plain());
        html.raw(" ");
        match (one.started, one.ended) {
            (Some(from), Some(to)) => html.text(words::span(to - from)),
            (Some(from), None) => html.add(&self.since(hide, from)),
            _ => &mut html,
        };
        if one.attempt > 1 {
            html.raw(" attempt ").number(i64::from(one.attempt));
        }
        html.raw(" <span class=\"quiet\">").text(&one.summary).raw("</span></summary>");
        if let Some(failure) = &one.failure {
            html.raw("<p class=\"bad\">")
                .text(failure.class.name().replace('_', " "))
                .raw(": ")
                .text(&failure.line)
                .raw("</p>");
        }
        let attempts: Vec<&AttemptRow> = self.attempts.iter().filter(|row| row.stage == one.name).collect();
        if attempts.len() > 1 {
            html.raw("<ol>");
            for row in attempts {
                html.raw("<li>").add(&self.moment(hide, row.begun));
                if let Some(ended) = row.ended {
                    html.raw(", ").text(words::span(ended - row.begun));
                }
                for text in row.class.iter().chain(&row.line) {
                    html.raw(", ").text(text);
                }
                html.raw("</li>");
            }
            html.raw("</ol>");
        }
        match (self.reads, log) {
            (_, []) if one.attempt == 0 => &mut html,
            (true, []) => html.raw("<p class=\"quiet\">Its log is empty, or is not shown.</p>"),
            (true, log) => html.raw("<pre>").text(log.join("\n")).raw("</pre>"),
            (false, _) => {
                html.raw("<p class=\"quiet\">Its log is for who asked, and for those who may deploy there.</p>")
            }
        };
        html
    }

    fn foot(&self, hide: &Hide) -> Html {
        let (run, mut html) = (&self.run, Html::new(hide));
        if !self.approvals.is_empty() {
            html.raw("<h2>Who agreed</h2><ul>");
            for row in &self.approvals {
                html.raw("<li>").text(&row.handle).raw(if row.yes { " agreed to " } else { " said no to " });
                html.text(&row.code).raw(" at ").add(&self.moment(hide, row.at));
                if !row.reason.is_empty() {
                    html.raw(": ").text(&row.reason);
                }
                html.raw("</li>");
            }
            html.raw("</ul>");
        }
        if !run.commits.is_empty() {
            html.raw("<h2>Commits</h2><ul>");
            for commit in run.commits.iter().take(COMMITS) {
                html.raw("<li><code>").text(commit.sha.chars().take(7).collect::<String>()).raw("</code> ");
                html.text(&commit.subject).raw(" <span class=\"quiet\">").text(&commit.author).raw("</span></li>");
            }
            html.raw("</ul><p class=\"quiet\">").number(run.commit_count as i64).raw(" in all</p>");
        }
        html.raw("<p><a href=\"/a/")
            .segment(&run.app)
            .raw("/")
            .segment(&run.env)
            .raw("\">All of ")
            .text(run.place())
            .raw("</a></p>");
        html
    }
}

/// The state of a run or a stage.
pub(super) fn state(html: &mut Html, name: &str, plain: &'static str) {
    html.raw("<span class=\"state ").raw(plain).raw("\">").text(name.replace('_', " ")).raw("</span>");
}

/// The first look of somebody: the page whole.
pub(super) async fn page(asking: &Asking<'_>, number: &str) -> Result<warp::reply::Response, Refusal> {
    let number = number.parse().map_err(|_| Refusal::unknown("a run has a number"))?;
    let (caller, mut logs) = (&asking.visitor.caller, Logs::new());
    let seen = look(asking.pipelines, caller, number, &mut logs).await?;
    let html = whole(&seen.parts(asking.hide(), &logs), asking.hide());
    Ok(asking.page(&seen.title(), Some(format!("/r/{number}/events")), &html))
}

/// Parts in their order, each with its name.
pub(super) fn whole(parts: &[Part], hide: &Hide) -> Html {
    let mut html = Html::new(hide);
    html.raw("<div id=\"parts\">");
    for part in parts {
        let (begin, end) = match part.folds {
            Some(true) => ("<details open data-part=\"", "</details>"),
            Some(false) => ("<details data-part=\"", "</details>"),
            None => ("<section data-part=\"", "</section>"),
        };
        html.raw(begin).text(&part.id).raw("\">").add(&part.html).raw(end);
    }
    html.raw("</div>");
    html
}
