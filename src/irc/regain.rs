//! Getting the nick back: the server is asked to tell when it is free, or asked again and again, or services are.

use std::time::Duration;

use tokio::time::Instant;

use super::message::Message;
use super::network::Shared;
use super::register::fallback_nick;

/// How long to leave it after the server refused the nick.
const AFTER_REFUSAL: Duration = Duration::from_secs(30);
/// How often services are asked for it.
const SERVICES_AGAIN: Duration = Duration::from_secs(600);

/// What was done lately about the nick, on one connection.
#[derive(Debug, Default)]
pub(super) struct Regain {
    /// Nicks that were refused while we were forced to leave ours.
    tries: usize,
    /// Not before then.
    not_before: Option<Instant>,
    /// When services were asked.
    asked: Option<Instant>,
    /// Whether the server's list of watched nicks is full (734, 512).
    list_full: bool,
}

/// By which means it is known that a nick is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    /// <https://ircv3.net/specs/extensions/monitor>
    Monitor,
    /// Its forerunner.
    Watch,
    /// It has to be asked.
    Ison,
}

impl Regain {
    /// Registered, or told by another nick than we want: watches, and asks services if they are to be asked.
    pub(super) fn begin(&mut self, shared: &mut Shared, now: Instant) {
        let wanted = shared.settings.nick.clone();
        if shared.state.is_own(&wanted) {
            return;
        }
        match self.watch(shared) {
            Means::Monitor => shared.command("MONITOR", &["+", &wanted]),
            Means::Watch => shared.command("WATCH", &[&format!("+{wanted}")]),
            Means::Ison => {}
        }
        self.ask_services(shared, now);
    }

    /// Looks after it: asks where nobody tells.
    pub(super) fn look(&mut self, shared: &mut Shared, now: Instant) {
        let wanted = shared.settings.nick.clone();
        if shared.state.is_own(&wanted) {
            return;
        }
        if self.watch(shared) == Means::Ison {
            shared.command("ISON", &[&wanted]);
        }
        self.ask_services(shared, now);
    }

    /// Reacts to a line that the picture has already taken in.
    pub(super) fn react(&mut self, message: &Message<'_>, own: bool, shared: &mut Shared, now: Instant) {
        let wanted = shared.settings.nick.clone();
        match message.command {
            "NICK" | "QUIT" if !own => self.take(message.nick(), shared, now),
            "NICK" if shared.state.casemap().eq(message.param(0), &wanted) => match self.watch(shared) {
                Means::Monitor if shared.watches(&wanted) => {}
                Means::Monitor => shared.command("MONITOR", &["-", &wanted]),
                Means::Watch => shared.command("WATCH", &[&format!("-{wanted}")]),
                Means::Ison => {}
            },
            // Somebody (services, an oper) has given us another.
            "NICK" => self.begin(shared, now),
            // RPL_MONOFFLINE: the nicks that nobody has now.
            "731" => message.last().split(',').for_each(|nick| self.take(nick, shared, now)),
            // RPL_LOGOFF, RPL_NOWOFF.
            "601" | "605" => self.take(message.param(1), shared, now),
            // RPL_ISON: those of the asked that are there.
            "303" if self.watch(shared) == Means::Ison => {
                let casemap = shared.state.casemap();
                if !message.last().split(' ').any(|nick| casemap.eq(nick, &wanted)) {
                    self.take(&wanted, shared, now);
                }
            }
            "734" | "512" => self.list_full = true,
            // We log in late: services give it to whom it belongs.
            "900" => self.ask_services(shared, now),
            // Before we are registered, the registration sees to it.
            "432" | "433" | "436" | "437" | "438"
                if shared.status.connected && !shared.state.isupport.is_channel(message.param(1)) =>
            {
                self.not_before = Some(now + AFTER_REFUSAL);
                self.refused(shared);
            }
            _ => {}
        }
    }

    fn watch(&self, shared: &Shared) -> Means {
        match &shared.state.isupport {
            _ if self.list_full => Means::Ison,
            isupport if isupport.has("MONITOR") => Means::Monitor,
            isupport if isupport.has("WATCH") => Means::Watch,
            _ => Means::Ison,
        }
    }

    /// Somebody left this nick. If it is the one we want, it is ours.
    fn take(&self, left: &str, shared: &mut Shared, now: Instant) {
        let wanted = shared.settings.nick.clone();
        let early = self.not_before.is_some_and(|at| now < at);
        if shared.state.casemap().eq(left, &wanted) && !shared.state.is_own(&wanted) && !early {
            shared.command("NICK", &[&wanted]);
        }
    }

    /// Only where it is configured, and only when services can know that it is ours: we are logged in, or say a password.
    fn ask_services(&mut self, shared: &mut Shared, now: Instant) {
        let Some(services) = shared.settings.services.clone() else { return };
        let Some(word) = services.regain.clone() else { return };
        let wanted = shared.settings.nick.clone();
        let lately = self.asked.is_some_and(|at| now.duration_since(at) < SERVICES_AGAIN);
        let password = shared.sayable(&services);
        let known = shared.status.account.is_some() || password.is_some();
        if lately || !known || shared.state.is_own(&wanted) {
            return;
        }
        self.asked = Some(now);
        let mut words = format!("{word} {wanted}");
        if let Some(password) = password {
            words.push(' ');
            words.push_str(password.reveal());
        }
        shared.command("PRIVMSG", &[&services.nickserv, &words]);
    }

    /// Refused while we have one: we keep it. Only a nick that is an id, which a server forces on us, is left at once.
    fn refused(&mut self, shared: &mut Shared) {
        let forced = shared.state.nick.starts_with(|c: char| c.is_ascii_digit());
        if forced {
            let nick = fallback_nick(&shared.settings, self.tries, shared.state.isupport.nicklen());
            self.tries += 1;
            shared.command("NICK", &[&nick]);
        }
    }
}
