//! What can be configured about where the records of runs are.

use std::path::Path;
use std::str::FromStr;

use masterchief_contract::Secret;
use serde::Deserialize;
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::RunsError;
use super::open::At;

/// The `pipelines.records` block. Without it they are in a file of SQLite in the data folder.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Records {
    /// A database of PostgreSQL, 12 or newer: `postgres://user:password@host/database`. Everything but this machine is asked over
    /// TLS, and its certificate is checked; `?sslrootcert=PATH` names who signed it where the system does not know.
    pub url: Option<Secret>,
    /// Whether a server elsewhere may be asked without TLS, or without looking at its certificate, as `?sslmode=` in `url` says.
    pub insecure: bool,
}

/// A database of PostgreSQL, and how it is reached.
#[derive(Clone, Debug)]
pub struct Server {
    pub(super) options: Box<PgConnectOptions>,
}

/// For people, without secrets.
impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let database = self.options.get_database().unwrap_or_else(|| self.options.get_username());
        write!(f, "PostgreSQL's database {database} on {}", self.options.get_host())
    }
}

impl Records {
    /// Where they are: on the server, else in that file, else in memory.
    pub fn at(&self, file: Option<&Path>) -> Result<At, RunsError> {
        match &self.url {
            Some(url) => self.server(url).map(At::Server).map_err(RunsError::Address),
            None => Ok(file.map_or(At::Memory, |file| At::File(file.to_owned()))),
        }
    }

    /// What is wrong with them.
    pub fn fault(&self) -> Option<String> {
        self.url.as_ref().and_then(|url| self.server(url).err())
    }

    fn server(&self, url: &Secret) -> Result<Server, String> {
        let url = url.reveal();
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err("url begins with postgres://; without one the records are in a file".to_owned());
        }
        let wrong = |_| "url is of the form postgres://user:password@host/database".to_owned();
        let options = PgConnectOptions::from_str(url).map_err(wrong)?;
        let said = url.contains("sslmode=") || url.contains("ssl-mode=");
        let options = match (near(&options), said) {
            // Who can read that can read this process too.
            (true, false) => options.ssl_mode(PgSslMode::Disable),
            (false, false) => options.ssl_mode(PgSslMode::VerifyFull),
            (true, true) => options,
            (false, true) if self.insecure || matches!(options.get_ssl_mode(), PgSslMode::VerifyFull) => options,
            (false, true) => {
                return Err("url asks a server elsewhere without looking at who answers; leave sslmode out for TLS with a certificate that is checked, or add insecure: true".to_owned());
            }
        };
        Ok(Server { options: Box::new(options.application_name("masterchief").disable_statement_logging()) })
    }
}

/// Whether it is on this machine.
fn near(options: &PgConnectOptions) -> bool {
    let host = options.get_host().trim_matches(['[', ']']);
    let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    options.get_socket().is_some() || host.starts_with('/') || host == "localhost" || loopback
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(url: &str, insecure: bool) -> Records {
        Records { url: Some(Secret::new(url)), insecure }
    }

    #[test]
    fn a_server_elsewhere_is_asked_over_tls_and_proves_who_it_is() {
        let mode = |url: &str, insecure| {
            let at = records(url, insecure).at(None)?;
            let At::Server(server) = at else { panic!("{at:?}") };
            Ok::<String, RunsError>(format!("{:?}", server.options.get_ssl_mode()))
        };
        for (url, wanted) in [
            ("postgres://u:p@db.example/mc", "VerifyFull"),
            ("postgresql://u:p@10.0.0.7:5433/mc", "VerifyFull"),
            ("postgres://u:p@db.example/mc?sslmode=verify-full", "VerifyFull"),
            ("postgres://u:p@127.0.0.1/mc", "Disable"),
            ("postgres://u:p@[::1]/mc", "Disable"),
            ("postgres://u@localhost/mc", "Disable"),
            ("postgres://u@localhost/mc?sslmode=require", "Require"),
            ("postgres://u@%2Frun%2Fpostgresql/mc", "Disable"),
            ("postgres:///mc?host=/run/postgresql", "Disable"),
        ] {
            assert_eq!(mode(url, false).unwrap(), wanted, "{url}");
        }
        for weak in ["disable", "allow", "prefer", "require", "verify-ca"] {
            let url = format!("postgres://u:p@db.example/mc?sslmode={weak}");
            assert!(mode(&url, false).unwrap_err().to_string().contains("insecure: true"), "{weak}");
            assert!(mode(&url, true).is_ok(), "{weak}");
        }
        assert_eq!(mode("postgres://u:p@db.example/mc", true).unwrap(), "VerifyFull", "only what is named is weak");
    }

    #[test]
    fn what_is_no_address_is_refused_and_a_password_is_never_shown() {
        for url in ["mysql://u:hunter2@h/d", "postgres://u:hunter2@h:port/d", "hunter2"] {
            let records = records(url, false);
            let fault = records.fault().unwrap();
            assert!(fault.contains("postgres://") && !fault.contains("hunter2"), "{fault}");
            assert!(!format!("{records:?}").contains("hunter2"));
        }
        let at = records("postgres://u:hunter2@db.example/mc", false).at(None).unwrap();
        assert_eq!(at.to_string(), "PostgreSQL's database mc on db.example");
        assert!(matches!(Records::default().at(None), Ok(At::Memory)));
        assert!(matches!(Records::default().at(Some(Path::new("a"))), Ok(At::File(_))));
    }
}
