//! The nicks whose coming and going the server is to tell (MONITOR): those that binds of kind `monitor` name. Each server is told of
//! them anew. <https://ircv3.net/specs/extensions/monitor>

use super::network::{Network, Shared};

/// Bytes of nicks in one line, well under what a line may have.
const ROOM: usize = 400;

impl Network {
    /// The nicks of which somebody wants to know when they come and go. Where the server has no MONITOR, nobody tells.
    pub fn want_watched(&self, nicks: &[String]) {
        {
            let mut shared = self.inner.lock();
            let shared = &mut *shared;
            let own = shared.settings.nick.to_ascii_lowercase();
            let now = nicks.iter().map(|nick| (nick.to_ascii_lowercase(), nick.clone())).collect();
            let before = std::mem::replace(&mut shared.watched, now);
            let gone = before.iter().filter(|(key, _)| !shared.watched.contains_key(*key) && **key != own);
            let gone: Vec<String> = gone.map(|(_, nick)| nick.clone()).collect();
            let come = shared.watched.iter().filter(|(key, _)| !before.contains_key(*key));
            let come: Vec<String> = come.map(|(_, nick)| nick.clone()).collect();
            shared.monitor("-", &gone);
            shared.monitor("+", &come);
        }
        self.inner.wake.notify_one();
    }
}

impl Shared {
    /// The server of this connection knows of none yet.
    pub(super) fn monitor_all(&mut self) {
        let all: Vec<String> = self.watched.values().cloned().collect();
        self.monitor("+", &all);
    }

    /// Whether somebody but ourselves wants to know of this nick.
    pub(super) fn watches(&self, nick: &str) -> bool {
        self.watched.contains_key(&nick.to_ascii_lowercase())
    }

    fn monitor(&mut self, sign: &str, nicks: &[String]) {
        if nicks.is_empty() || !self.status.connected || !self.state.isupport.has("MONITOR") {
            return;
        }
        // One place is kept for the nick that we want ourselves.
        let most = self.state.isupport.number("MONITOR").filter(|most| *most > 0).map_or(usize::MAX, |most| most - 1);
        if sign == "+" && self.watched.len() > most {
            tracing::warn!(
                most,
                wanted = self.watched.len(),
                "The server watches fewer nicks than binds of kind monitor name"
            );
        }
        let mut line = String::new();
        for nick in nicks.iter().take(most) {
            if !line.is_empty() && line.len() + nick.len() > ROOM {
                self.command("MONITOR", &[sign, &std::mem::take(&mut line)]);
            }
            if !line.is_empty() {
                line.push(',');
            }
            line.push_str(nick);
        }
        self.command("MONITOR", &[sign, &line]);
    }
}
