//! The bot's picture of a channel, held against the server's own while a thousand random things happen.

use masterchief::bot::Started;

use super::chance::{Dice, seed};
use super::lab::Lab;
use super::person::Person;
use super::real::{bot_on, joined};

/// How many things happen.
const EVENTS: u64 = 1000;
/// After so many the two pictures are compared.
const EACH: u64 = 100;
/// How many come and go.
const CROWD: usize = 8;

const SCRIPT: &str = r##"
    bot.bind("msg", "-|-", "!picture", function(ev)
      local rows = {}
      for _, one in bot.users("lab/#ops") do
        local away = if one.away and one.away ~= "" then "G" else "H"
        table.insert(rows, `{one.nick}={one.user}@{one.host}={away}{one.status}`)
      end
      table.sort(rows)
      return "picture " .. table.concat(rows, " ")
    end)"##;

/// Those who are there, and who does something to them.
struct Scene {
    lab: Lab,
    keeper: Person,
    crowd: Vec<Person>,
    dice: Dice,
}

impl Scene {
    /// One random thing happens.
    async fn happens(&mut self, number: u64) {
        let at = self.dice.below(CROWD);
        let nick = self.crowd[at].nick.clone();
        match self.dice.below(10) {
            0..3 => self.crowd[at].sends("JOIN #ops"),
            3 => self.crowd[at].sends("PART #ops :bye"),
            4 => {
                let next = format!("p{at}x{number}");
                self.crowd[at].sends(&format!("NICK {next}"));
                self.crowd[at].nick = next;
            }
            5 | 6 => {
                let mode = ["+o", "+v", "-o", "-v"][self.dice.below(4)];
                self.keeper.sends(&format!("MODE #ops {mode} {nick}"));
            }
            7 => self.crowd[at].sends(if self.dice.one_in(2) { "AWAY :lunch" } else { "AWAY" }),
            8 => self.keeper.sends(&format!("KICK #ops {nick} :out")),
            _ if self.dice.one_in(3) => {
                let next = Person::connect(self.lab.plain, &format!("p{at}y{number}")).await;
                let mut gone = std::mem::replace(&mut self.crowd[at], next);
                gone.sends("QUIT :bye");
                gone.waits(|line| line.command == "ERROR").await;
            }
            _ => self.crowd[at].sends("JOIN #ops"),
        }
    }

    /// Waits until the server has done all that was asked of it.
    async fn settles(&mut self, number: u64) {
        let token = format!("t{number}");
        for person in self.crowd.iter_mut().chain(std::iter::once(&mut self.keeper)) {
            person.sends(&format!("PING {token}"));
            person.waits(|line| line.command == "PONG" && line.params.last() == Some(&token)).await;
        }
    }

    /// The channel as the server tells of it.
    async fn told(&mut self) -> Vec<String> {
        let mut rows = Vec::new();
        self.keeper.sends("WHO #ops");
        loop {
            let line = self.keeper.waits(|line| matches!(line.command.as_str(), "352" | "315")).await;
            let [_, _, user, host, _, nick, flags, ..] = line.params.as_slice() else { break };
            let status: String = flags.chars().filter(|c| "~&@%+".contains(*c)).collect();
            rows.push(format!("{nick}={user}@{host}={}{status}", &flags[..1]));
        }
        rows.sort();
        rows
    }

    /// The channel as the bot sees it.
    async fn seen(&mut self) -> Vec<String> {
        self.keeper.says("chief", "!picture");
        let words = self.keeper.hears("chief", "picture ").await;
        words.split(' ').skip(1).map(str::to_owned).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_thousand_random_events_the_bot_sees_its_channel_as_the_server_does() {
    let lab = Lab::start();
    let mut keeper = Person::connect(lab.plain, "keeper").await;
    keeper.joins("#ops").await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("picture.lua"), SCRIPT).unwrap();
    let started: Started = bot_on(&lab, "#ops").scripts(folder.path()).start().await.unwrap();
    joined(&started, "#ops").await;
    let mut crowd = Vec::new();
    for at in 0..CROWD {
        crowd.push(Person::connect(lab.plain, &format!("p{at}")).await);
    }
    let seed = seed();
    let mut scene = Scene { lab, keeper, crowd, dice: Dice::new(seed) };
    for event in 1..=EVENTS {
        scene.happens(event).await;
        if event.is_multiple_of(EACH) {
            scene.settles(event).await;
            let (told, seen) = (scene.told().await, scene.seen().await);
            assert_eq!(seen, told, "after {event} events of seed {seed}");
            assert!(told.len() > 2, "{told:?}");
        }
    }
    started.stop("").await;
}
