//! What owners see of the lines of servers and of linked bots, and what nobody sees of them.

use masterchief::bot::Bot;
use masterchief::partyline;
use tracing_subscriber::layer::SubscriberExt;

use super::eggdrop::{Egg, Friend};
use super::mesh::{Chief, settings};
use super::mesh_wire::{Forger, Way, through};
use super::partyline::{Typist, knows};

#[tokio::test]
async fn owners_see_each_line_of_servers_and_bots_but_no_password_and_others_none() {
    let (layer, lines) = partyline::live_log();
    // For this thread alone, on which the whole story runs.
    let _logging = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let egg = Egg::start("EggOne", &[Friend("Chief", 1)]).await;
    let server = crate::wire::Wire::plain().await;
    let inside = partyline::Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..partyline::Settings::default() };
    let builder = Bot::builder().live_log(lines).partyline(inside).network("story", server.settings());
    let folder = tempfile::tempdir().unwrap();
    let chief = Chief::of(builder, folder.path(), settings("Chief")).await;
    let mut line = server.accepts().await;
    line.is_joined("", "").await;
    for (handle, flags) in [("olga", "np"), ("mia", "mp")] {
        knows(&chief.bot, handle, flags).await;
    }
    let at = chief.bot.partyline_at().0.unwrap();
    let (mut olga, mut mia) = (Typist::logs_in(at, "olga").await, Typist::logs_in(at, "mia").await);
    mia.types(".console +rvtu").await;
    olga.types(".console +rvtu").await;
    olga.reads("You see ").await;
    // The first link makes a password, and it is told another one later.
    let wire = Forger::to(egg.port).await;
    chief.mesh.configure(through(&wire, &egg, &[])).await;
    let mut seen = olga.reads("line=el").await;
    wire.has_linked().await;
    let password = wire.said(Way::Back, "handshake ").or_else(|| wire.said(Way::Back, "h "));
    let password = password.unwrap().split(' ').next_back().unwrap().to_owned();
    wire.says(Way::Back, "h anotherpassword");
    wire.says(Way::Back, "zb EggOne labcmd from-the-egg");
    seen += &olga.reads("line=zb EggOne labcmd from-the-egg").await;
    chief.mesh.broadcast("labcmd", "from-us").await.unwrap();
    seen += &olga.reads("line=zb Chief labcmd from-us").await;
    for words in ["From a bot", "To a bot", "line=tb EggOne", "line=tb Chief", "line=h\r\n"] {
        assert!(seen.contains(words), "{words}: {seen}");
    }
    line.says(&[":bob!b@h PRIVMSG #ops :a line of a server"]).await;
    seen += &olga.reads(":bob!b@h PRIVMSG #ops :a line of a server").await;
    olga.types(".say story/#ops a line to a server").await;
    line.hears("PRIVMSG #ops").await;
    seen += &olga.reads("a line to a server").await;
    assert!(seen.contains("To a server"), "{seen}");
    for secret in [password.as_str(), "anotherpassword"] {
        assert!(!seen.contains(secret), "{seen}");
    }
    // Whoever is no owner sees none of it, whatever they ask for.
    mia.types(".whoami").await;
    let seen = mia.reads("You are mia").await;
    for words in ["From a bot", "To a bot", "To a server", "labcmd", "PRIVMSG"] {
        assert!(!seen.contains(words), "{words}: {seen}");
    }
    chief.bot.stop("").await;
}
