//! The gateway: one port on which services post webhooks and monitors ask how the bot is.
//!
//! `POST /hooks/ROUTE`, `GET /health`, `/health/live`, `/health/ready`, `/metrics`, `/said/PAGE` for what was too much for a channel, runs under `/pipelines`, pages for people (`web/`), and `/partyline/ws` for clients in pages. A post is verified over its bytes
//! before anything of it is parsed, and answered once it is durable.

mod answers;
mod figures;
mod hooks;
mod lanes;
mod live;
mod looks;
mod pages;
mod peer;
mod runs;
mod server;
mod settings;
mod source;
mod verbs;
mod vitals;
mod web;

pub use answers::{Answer, Answers};
pub use pages::{Pages, Speaks};
pub use peer::Visitor;
pub use runs::TokenSettings;
pub use server::{Gateway, GatewayError, Opening};
pub use settings::Settings;
pub use source::{Door, Knock};
pub use vitals::{Check, Metrics, Vitals};
pub use web::Hide;
