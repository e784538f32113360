//! What the net says is done: lines go to links, news to the house, notes to their desk, calls to who answers them.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::super::link::{Out, QUEUE};
use super::super::name::{BotName, Word};
use super::super::net::Effect;
use super::super::news::{Call, News, Note};
use super::super::pending::{CallFault, Called, Reply};
use super::super::talk::{CODE, Said, Size};
use super::{Ask, Hub};

impl Hub {
    /// Does all that is to be done. A link that has no room for a line is lost, which is more to be done.
    pub(super) async fn perform(&mut self, mut effects: Vec<Effect>, tasks: &mut JoinSet<()>) {
        loop {
            self.each(std::mem::take(&mut effects), tasks).await;
            let Some(id) = self.overrun.pop() else { return };
            effects = self.down(id, "it was too slow");
        }
    }

    async fn each(&mut self, effects: Vec<Effect>, tasks: &mut JoinSet<()>) {
        for effect in effects {
            match effect {
                Effect::Send { .. } => self.send(effect),
                Effect::Fetch { peer, offer } => self.fetch(peer, offer, tasks),
                Effect::Gives { peer, line } => self.given(peer, line),
                Effect::GivesNoMore { peer } => drop(self.givers.remove(&peer)),
                Effect::Close { peer, reason } => {
                    self.givers.remove(&peer);
                    tracing::info!(link = peer, reason, "A link is ended");
                    let closes = self.lines.0.get(&peer).is_none_or(|line| line.out.try_send(Out::Close).is_ok());
                    if !closes {
                        // Without room for its last words it ends at once.
                        self.lines.0.remove(&peer);
                    }
                    self.changed = true;
                }
                Effect::News(news) => self.tell(news),
                Effect::Note(note) => self.note(note),
                Effect::Password { bot, password } => self.learn(&bot, Some(password), None).await,
                Effect::Dial { bot, asked } => self.call(&bot, Some(asked), tasks),
                Effect::Warn { peer, text } => {
                    tracing::warn!(bot = %peer, text, "A bot of the mesh");
                    self.house.warn(&peer, &text);
                }
            }
        }
    }

    /// Tells the house; what we speak among ourselves is dealt with here.
    fn tell(&mut self, news: News) {
        let news = match news {
            News::Script { from, code, args } if code.as_str() == CODE => {
                return self.frame(from, &args);
            }
            news => news,
        };
        if let News::Lost { bot, .. } = &news {
            self.pending.lost(bot);
        }
        self.changed |= !matches!(news, News::Said { .. } | News::BotSaid { .. } | News::Script { .. });
        // Whoever hears of these looks at the view next.
        let looks = match &news {
            News::Linked { via, .. } => *via == self.me,
            News::Answer { .. } => self.changed,
            _ => false,
        };
        if looks {
            self.publish();
        }
        // Nobody may be listening.
        let _ = self.news.send(Arc::new(news));
    }

    /// A frame of one of us. A call that it completes is the house's, if it has room.
    fn frame(&mut self, from: BotName, args: &str) {
        let Some(via) = self.net.book().via(&from) else { return };
        let Some(Called { id, cmd, data }) = self.pending.frame(&from, via, args, self.now()) else { return };
        let (trust, proven) = (self.net.trust(&from), self.net.is_proven(&from));
        if !self.house.called(Call { from: from.clone(), via, trust, proven, id, cmd, data }) {
            let result = Err("too many calls wait there; try again later".to_owned());
            // Back through our own queue, which has room or the caller waits until it is late.
            let _ = self.to_self.try_send(Ask::Answer { to: from, id, result });
        }
    }

    pub(super) fn calls(&mut self, bot: BotName, cmd: String, data: String, reply: Reply) -> Vec<Effect> {
        let fault = match self.net.book().bot(&bot) {
            None => Some(CallFault::NoSuchBot(bot.clone())),
            Some(row) if !row.is_ours() => Some(CallFault::NotOurs(bot.clone())),
            Some(_) => None,
        };
        if let Some(fault) = fault {
            // Whoever asked may have gone.
            let _ = reply.send(Err(fault));
            return Vec::new();
        }
        let frames = self.pending.begin(bot.clone(), (cmd, data), reply, self.size(&bot));
        self.framed(&bot, frames)
    }

    pub(super) fn answers(&mut self, to: &BotName, id: u32, result: Result<String, String>) -> Vec<Effect> {
        let (answer, size) = (Said::Answer { id, result }, self.size(to));
        let long = || Said::Answer { id, result: Err("the answer is too long".to_owned()) }.frames(size);
        let frames = answer.frames(size).or_else(long).unwrap_or_default();
        self.framed(to, frames)
    }

    fn size(&self, to: &BotName) -> Size {
        if self.net.is_ours_all_the_way(to) { Size::Large } else { Size::Small }
    }

    fn framed(&mut self, to: &BotName, frames: Vec<String>) -> Vec<Effect> {
        let (now, Some(code)) = (self.now(), Word::new(CODE)) else { return Vec::new() };
        // A bot that has gone meanwhile is told as lost to whoever waits.
        frames.iter().filter_map(|frame| self.net.frame(to, code.clone(), frame, now).ok()).flatten().collect()
    }

    pub(super) fn send(&mut self, effect: Effect) {
        let Effect::Send { to, line, talk } = effect else { return };
        let Some(link) = self.lines.0.get_mut(&to) else { return };
        if talk && (link.out.capacity() < QUEUE / 4 || !link.talk.take()) {
            link.dropped += 1;
            if link.dropped.is_power_of_two() {
                tracing::warn!(bot = %link.bot, dropped = link.dropped, "There is more talk than a link is given, or it is behind; talk is left out");
            }
            return;
        }
        if link.out.try_send(Out::Line(line)).is_err() {
            self.overrun.push(to);
        }
    }

    pub(super) fn note(&mut self, note: Note) {
        let (to, user) = (note.from.clone(), note.to.clone());
        let taken = self.notes.as_ref().is_some_and(|notes| notes.try_send(note).is_ok());
        if !taken {
            let text = format!("The note to {user} is not taken now; try again later.");
            // Back through our own queue, which has room or the answer is lost with the note.
            let _ = self.to_self.try_send(Ask::Noted { to, text });
        }
    }
}
