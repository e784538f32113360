//! The stories: what people, servers and operators see. Each starts the servers it needs and stops them.

// A story that cannot go on has failed, in its helping functions too.
#![allow(clippy::unwrap_used)]

mod brokers;
mod commands;
mod conformance;
mod fake;
mod files;
mod lab;
mod letters;
mod limits;
mod logs;
mod metrics;
mod person;
mod polled;
mod real;
mod scripts;
mod servers;
mod services;
mod trouble;
mod webhooks;
