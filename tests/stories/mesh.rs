//! The mesh with real Eggdrops: we link with them as a leaf.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use masterchief::bot::{Bot, Builder, Started};
use masterchief::mesh::{Attribute, BotSettings, Encryption, Local, Mesh, News, Settings, Word};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::eggdrop::{Egg, Friend};

/// How long the mesh may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// Our bot, with its mesh and what it hears.
pub(crate) struct Chief {
    pub(crate) bot: Started,
    pub(crate) mesh: Mesh,
    news: Receiver<Arc<News>>,
}

pub(crate) fn settings(name: &str) -> Settings {
    Settings {
        name: Some(name.to_owned()),
        network: "labnet".to_owned(),
        admin: "alice".to_owned(),
        motd: "the house is open".to_owned(),
        retry: Duration::from_millis(500),
        ..Settings::default()
    }
}

/// An Eggdrop that is our hub, at its port in clear.
pub(crate) fn clear_hub(egg: &Egg) -> BotSettings {
    BotSettings {
        addresses: vec![format!("127.0.0.1:{}", egg.port).parse().unwrap()],
        attributes: BTreeSet::from([Attribute::Hub]),
        tls: Encryption::None,
        insecure: true,
        ..BotSettings::default()
    }
}

impl Chief {
    pub(crate) async fn start(folder: &Path, settings: Settings) -> Chief {
        Chief::of(Bot::builder(), folder, settings).await
    }

    /// With binds of its own.
    pub(crate) async fn of(builder: Builder, folder: &Path, settings: Settings) -> Chief {
        let bot = builder.data(folder).mesh(settings).start().await.unwrap();
        let mesh = bot.mesh().unwrap().clone();
        let news = mesh.news();
        Chief { bot, mesh, news }
    }

    /// The next news that are wanted.
    pub(crate) async fn hears<T>(&mut self, what: &str, wanted: impl Fn(&News) -> Option<T>) -> T {
        let mut passed: Vec<Arc<News>> = Vec::new();
        let next = async {
            loop {
                let news = match self.news.recv().await {
                    Ok(news) => news,
                    Err(RecvError::Lagged(_)) => continue,
                    Err(closed) => panic!("{closed}"),
                };
                if let Some(found) = wanted(&news) {
                    return found;
                }
                passed.push(news);
            }
        };
        match tokio::time::timeout(PATIENCE, next).await {
            Ok(found) => found,
            Err(_) => panic!("{what} is not heard; heard was {passed:#?}"),
        }
    }

    /// Ready when a bot is in the net. It may have been before.
    pub(crate) async fn sees(&self, bot: &str) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while !self.mesh.view().bots.iter().any(|other| other.name.as_str() == bot) {
            assert!(tokio::time::Instant::now() < end, "{bot} is not linked");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn joins(&self, sock: u32, nick: &str) {
        let (nick, host) = (Word::new(nick).unwrap(), "irc@localhost".to_owned());
        self.mesh.tell(Local::Join { sock, nick, chan: 0, icon: '*', host }).await.unwrap();
    }

    pub(crate) async fn says(&self, sock: u32, text: &str) {
        self.mesh.tell(Local::Say { sock, text: text.to_owned(), act: false }).await.unwrap();
    }
}

#[tokio::test]
async fn we_link_as_a_leaf_with_a_real_eggdrop_and_its_people_see_ours() {
    let hub = Egg::start("HubBot", &[Friend("Chief", 1)]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut known = settings("Chief");
    known.bots.insert("HubBot".to_owned(), clear_hub(&hub));
    let mut chief = Chief::start(folder.path(), known.clone()).await;
    chief.sees("HubBot").await;
    let mut owner = hub.owner().await;
    owner.says(".bots").await;
    owner.expect("Chief").await;
    chief.joins(7, "alice").await;
    owner.expect("alice").await;
    chief.says(7, "hello, eggs: ä€😀").await;
    owner.expect("<alice@Chief> hello, eggs: ä€😀").await;
    owner.says("hello, chief").await;
    let said = chief.hears("the owner", |news| match news {
        News::Said { member, text, act: false, .. } => Some((member.nick.to_string(), text.clone())),
        _ => None,
    });
    assert_eq!(said.await, ("owner".to_owned(), "hello, chief".to_owned()));
    owner.says(".who Chief").await;
    owner.expect("*alice").await;
    chief.bot.stop("").await;
    hub.logs("LABDISC Chief").await;
    // The password that the first link made is kept: now it is proven.
    let chief = Chief::start(folder.path(), known).await;
    chief.sees("HubBot").await;
    chief.bot.stop("").await;
}
