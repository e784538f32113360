//! The stories: what people, servers and operators see. Each starts the servers it needs and stops them.

// A story that cannot go on has failed, in its helping functions too.
#![allow(clippy::unwrap_used)]

mod acted;
mod ansible;
mod autodeploy;
mod brokers;
mod checkout;
mod cluster;
mod commands;
mod conformance;
mod deploys;
mod fake;
mod files;
mod http;
mod images;
mod jenkins;
mod kubernetes;
mod lab;
mod letters;
mod limits;
mod logs;
mod matrices;
mod metrics;
mod person;
mod polled;
mod probes;
mod real;
mod records;
mod runs;
mod scripted;
mod scripts;
mod servers;
mod services;
mod steps;
mod templates;
mod terraform;
mod trouble;
mod verify;
mod webhooks;
