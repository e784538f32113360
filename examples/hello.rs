//! The smallest bot: one handler, one network.
//!
//!     cargo run --example hello -- irc.libera.chat:6697 '#mychannel'

use masterchief::bot::Bot;
use masterchief::contract::{Event, Kind};
use masterchief::irc::{Channel, Settings};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (Some(server), Some(channel)) = (args.next(), args.next()) else {
        anyhow::bail!("write a server and a channel: cargo run --example hello -- irc.libera.chat:6697 '#mychannel'");
    };
    let mut settings = Settings::new(vec![server.parse().map_err(anyhow::Error::msg)?]);
    settings.channels = vec![Channel { name: channel, key: None }];

    let bot = Bot::builder()
        .bind(Kind::Pub, "-|-", "!hello", |ev: Event| async move { format!("hi {}", ev.nick()) })?
        .network("main", settings)
        .start()
        .await?;
    tokio::signal::ctrl_c().await?;
    bot.stop("bye").await;
    Ok(())
}
