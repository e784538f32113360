//! A bot whose data folder was lost signs with another key: what it tells is taken once an operator has forgotten the old one, and not
//! before.

use std::path::Path;
use std::time::Duration;

use masterchief::bot::Bot;
use masterchief::mesh::{Attribute, BotSettings, Settings};
use masterchief::partyline;

use super::mesh::Chief;
use super::mesh_chiefs::{called, named};
use super::mesh_share::{has, sharing, user};
use super::partyline::Typist;
use super::servers::free_port;

/// Two, whose certificate belongs to its configuration, so that its key alone is another one after a loss.
fn two(port: u16, cert: &Path) -> Settings {
    let mut known = named("Two", None, &[("One", sharing(called(port, Attribute::Hub), "Df"))]);
    known.cert = Some(cert.to_owned());
    known
}

#[tokio::test]
async fn a_bot_that_was_set_up_anew_is_believed_once_its_key_is_forgotten_and_not_before() {
    let folders: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let own = rcgen::generate_simple_self_signed(vec!["two".to_owned()]).unwrap();
    let cert = folders[3].path().join("two.pem");
    std::fs::write(&cert, own.cert.pem() + &own.signing_key.serialize_pem()).unwrap();
    let port = free_port();
    let inside = partyline::Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..partyline::Settings::default() };
    let known = named("One", Some(port), &[("Two", sharing(BotSettings::default(), "Df"))]);
    let one = Chief::of(Bot::builder().partyline(inside), folders[0].path(), known).await;
    super::partyline::knows(&one.bot, "olga", "n").await;
    let first = Chief::start(folders[1].path(), two(port, &cert)).await;
    first.sees("One").await;
    first.bot.put_user(user("bob", "f")).await.unwrap();
    has(&one, "bob", "f").await;
    first.bot.stop("").await;

    // Its folder is lost, and with it the key with which it has signed.
    let anew = Chief::start(folders[2].path(), two(port, &cert)).await;
    anew.sees("One").await;
    anew.bot.put_user(user("carl", "f")).await.unwrap();
    one.bot.put_user(user("alice", "D")).await.unwrap();
    has(&anew, "alice", "D").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let knows = |chief: &Chief, handle: &str| chief.bot.book().get(handle).is_some();
    assert!(!knows(&one, "carl"), "what it signs now is nobody's word");
    assert!(!knows(&anew, "bob"), "and what it signed once it cannot prove itself");

    let mut olga = Typist::logs_in(one.bot.partyline_at().0.unwrap(), "olga").await;
    olga.types(".botpass Two").await;
    olga.reads("the key with which it signs what it tells").await;
    anew.bot.put_user(user("dora", "f")).await.unwrap();
    for handle in ["carl", "dora"] {
        has(&one, handle, "f").await;
    }
    has(&anew, "bob", "f").await;
    anew.bot.stop("").await;
    one.bot.stop("").await;
}
