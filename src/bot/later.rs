//! What of a configuration counts from the next start of the process only.

use super::Builder;
use crate::config::Config;
use crate::{executors, journal, mesh};

/// What the bot was started with and keeps as long as it runs.
#[derive(Debug)]
pub(super) struct Later {
    executors: executors::Settings,
    journal: journal::Settings,
    mesh: mesh::Settings,
}

impl Later {
    pub(super) fn of(builder: &Builder) -> Later {
        let (executors, journal) = (builder.executors.clone(), builder.journal.clone());
        Later { executors, journal, mesh: builder.mesh.clone() }
    }

    /// The names of those settings that are others in this configuration.
    pub(super) fn of_these(&self, config: &Config) -> Vec<&'static str> {
        let (now, then) = (&self.mesh, &config.mesh);
        let meshed = [
            ("mesh.listen", now.listen != then.listen),
            ("mesh.listen_tls", now.listen_tls != then.listen_tls),
            ("mesh.cert", (&now.cert, &now.key) != (&then.cert, &then.key)),
            ("mesh.retry", now.retry != then.retry),
            ("mesh.groups", now.groups != then.groups),
        ];
        // Without a name there is no mesh, and nothing else of it counts.
        let meshed = meshed.into_iter().filter(|_| now.name.is_some() && then.name.is_some());
        let all = [
            ("executors", self.executors != config.executors),
            ("journal", self.journal != config.journal),
            ("mesh.name", now.name != then.name),
        ];
        all.into_iter().chain(meshed).filter(|(_, other)| *other).map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_running_bot_keeps_is_named_where_it_is_another_now() {
        let config = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("bot.yaml");
            std::fs::write(&file, text).unwrap();
            crate::config::load(Some(&file), None, crate::config::Secrets::Needed).unwrap()
        };
        let of = |text: &str| {
            let Config { executors, journal, mesh, .. } = config(text);
            Later { executors, journal, mesh }
        };
        let jenkins = "executors: {jenkins: {ci: {url: 'https://ci.example', user: bot, token: old}}}\n";
        let kept = of(jenkins);
        assert!(kept.of_these(&config(jenkins)).is_empty());
        let other = config(&format!("{}journal: {{keep: 1h}}\nmesh: {{name: Chief}}\n", jenkins.replace("old", "new")));
        assert_eq!(kept.of_these(&other), ["executors", "journal", "mesh.name"]);
        let kept = of("mesh: {name: Chief, listen_tls: '127.0.0.1:1'}\n");
        let other = config("mesh: {name: Chief, listen_tls: '127.0.0.1:2', retry: 5s, motd: hello}\n");
        assert_eq!(kept.of_these(&other), ["mesh.listen_tls", "mesh.retry"], "what is told to others counts at once");
        assert_eq!(kept.of_these(&config("mesh: {motd: hello}\n")), ["mesh.name"]);
    }
}
