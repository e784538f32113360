//! The stories: what people, servers and operators see. Each starts the servers it needs and stops them.

// A story that cannot go on has failed, in its helping functions too.
#![allow(clippy::unwrap_used)]

mod acted;
mod ansible;
mod autodeploy;
mod brokers;
mod builds;
mod checkout;
mod cluster;
mod commands;
mod conditions;
mod conformance;
mod deploys;
mod eggdrop;
mod fake;
mod fewlines;
mod files;
mod http;
mod images;
mod jenkins;
mod kubernetes;
mod lab;
mod letters;
mod limits;
mod logs;
mod manners;
mod matrices;
mod mesh;
mod metrics;
mod person;
mod plans;
mod polled;
mod probes;
mod real;
mod records;
mod reports;
mod runs;
mod scripted;
mod scripts;
mod servers;
mod services;
mod skipping;
mod steps;
mod templates;
mod terraform;
mod triggered;
mod trouble;
mod turns;
mod undone;
mod verify;
mod waiting;
mod webhooks;
