//! The stories: what people, servers and operators see. Each starts the servers it needs and stops them.

mod commands;
mod fake;
mod lab;
mod limits;
mod person;
mod real;
mod services;
mod trouble;
