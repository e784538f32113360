//! A privileged command with typed arguments, tried on a network in memory: it needs no server.
//!
//!     cargo run --example deploy

use masterchief::bot::{Bot, CHANNEL, TestBot};
use masterchief::contract::{BindOptions, Cooldown, Event, HandlerError, Kind, user_error};
use std::time::Duration;

/// What is known to be deployable.
const APPS: &[&str] = &["web", "api"];

async fn deploy(ev: Event) -> Result<Vec<String>, HandlerError> {
    let (app, env) = (ev.arg_str("app"), ev.arg_str("env"));
    if !APPS.contains(&app) {
        return Err(user_error(format!("there is no app {app}; there are {}", APPS.join(" and "))));
    }
    // Posted at once, while the handler goes on.
    ev.say(format!("{} deploys {app} to {env}", ev.handle())).await.map_err(HandlerError::internal)?;
    tokio::time::sleep(Duration::from_secs(30)).await;
    Ok(vec![format!("{app} is on {env}")])
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> anyhow::Result<()> {
    let options = BindOptions {
        usage: Some("<app> [env:staging|prod=staging] [--force]".to_owned()),
        help: Some("Deploys an app".to_owned()),
        cooldown: Cooldown { user: Some(Duration::from_secs(10)), ..Cooldown::default() },
        ..BindOptions::default()
    };
    let bot = Bot::builder().bind_with(Kind::Pub, "D|D", "!deploy", options, deploy)?;

    let test = TestBot::start(bot).await?;
    let alice = test.user("alice").with_flags("D");
    alice.says(CHANNEL, "!deploy web prod").await;
    test.expect(CHANNEL, "alice deploys web to prod").await;
    test.advance(Duration::from_secs(30)).await;
    test.expect(CHANNEL, "web is on prod").await;
    alice.says(CHANNEL, "!deploy wbe").await;
    test.expect(CHANNEL, "there is no app wbe").await;
    test.user("mallory").says(CHANNEL, "!deploy web").await;
    test.expect("mallory", "!deploy needs the flags D|D").await;

    test.transcript().iter().for_each(|line| println!("{line}"));
    test.stop().await;
    Ok(())
}
