//! What an apply that broke off has left: what the state has since, and who holds its lock. It is only looked at.

use std::collections::BTreeSet;

use super::process::{Job, JobEnd, Out};
use super::terraform::{GRACE, Tool, VARS};
use super::terraform_ui::Ui;

/// So many resources are named in one line.
const NAMED: usize = 4;
/// The state before an apply, in the folder of its step.
const BEFORE: &str = "state-before";

impl Tool<'_> {
    /// Keeps what is in the state before anything is applied.
    pub(super) async fn remember_state(&self) {
        // Without a state there is no list; then there is nothing in it.
        let known = self.list(BEFORE).await.unwrap_or_default();
        let text: String = known.iter().map(|address| format!("{address}\n")).collect();
        if let Err(fault) = std::fs::write(self.path(&format!("{BEFORE}.list")), self.hands.mask.hide(&text)) {
            tracing::warn!(%fault, "What is in a state cannot be kept");
        }
    }

    /// A few words on the state and its lock, for those who decide; all of the state goes to the log. Nothing if it cannot be read.
    pub(super) async fn left(&self) -> Option<String> {
        let now = self.list("state-after").await?;
        let before = std::fs::read_to_string(self.path(&format!("{BEFORE}.list"))).ok();
        now.iter().for_each(|address| self.hands.log.line(&format!("in the state now: {address}")));
        let changed: Vec<String> = match before {
            None => Vec::new(),
            Some(before) => {
                let before: BTreeSet<String> = before.lines().map(str::to_owned).collect();
                let new = now.difference(&before).map(|address| format!("+{address}"));
                new.chain(before.difference(&now).map(|address| format!("-{address}"))).collect()
            }
        };
        let more = changed.len().saturating_sub(NAMED);
        let mut named = changed.iter().take(NAMED).cloned().collect::<Vec<_>>().join(" ");
        if named.is_empty() {
            "as before".clone_into(&mut named);
        }
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Some(format!("state of {}: {named}{more}; {}", now.len(), self.lock().await))
    }

    /// What is in the state.
    async fn list(&self, name: &'static str) -> Option<BTreeSet<String>> {
        self.forget(name);
        let argv = [self.program.as_str(), "state", "list"];
        let job = Job { cwd: Some(self.dir.clone()), out: Out::Own, ..Job::new(name, argv) };
        let mut all = BTreeSet::new();
        let end = job.run(self.step, self.hands, |line| {
            all.insert(line.trim().to_owned());
        });
        let end = end.await;
        self.forget(name);
        all.remove("");
        (end == JobEnd::Exited(0)).then_some(all)
    }

    /// Who holds the lock. A plan asks for it and gives it back; it refreshes nothing and is kept nowhere.
    async fn lock(&self) -> String {
        const NAME: &str = "lock";
        self.forget(NAME);
        let mut argv = vec![self.program.clone()];
        argv.extend(["plan", "-input=false", "-refresh=false", "-lock-timeout=0s", "-no-color"].map(str::to_owned));
        argv.extend(self.written.var_files.iter().map(|file| format!("-var-file={file}")));
        if !self.written.vars.is_empty() {
            match self.secret_file("-var-file", VARS, &self.written.vars) {
                Ok(option) => argv.push(option),
                Err(_) => return "whether it is locked could not be asked".to_owned(),
            }
        }
        self.hands.log.line(&format!("$ {} plan, to see whether the state is locked", self.program));
        let job = Job { cwd: Some(self.dir.clone()), out: Out::Own, grace: GRACE, ..Job::new(NAME, argv) };
        let end = job.run(self.step, self.hands, |_| ()).await;
        self.forget(NAME);
        let mut ui = Ui::default();
        ui.take_boxes(&self.said());
        let locked = ui.failure(&self.program).filter(|failure| failure.class == super::Class::StateLock);
        match (locked, end) {
            (Some(failure), _) => {
                let line = failure.line.trim_start_matches("the state is ");
                line.split("; wait for it").next().unwrap_or(line).to_owned()
            }
            (None, JobEnd::Exited(0)) => "not locked".to_owned(),
            (None, _) => "whether it is locked could not be told".to_owned(),
        }
    }

    /// Looking may be done again, and of what was read nothing stays.
    fn forget(&self, name: &str) {
        // It need not be there.
        ["pid", "exit", "out"].iter().for_each(|end| drop(std::fs::remove_file(self.path(&format!("{name}.{end}")))));
    }
}
