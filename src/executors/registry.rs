//! The login at a registry of images: a file that only we can read, there as long as a command needs it. A build outlives the bot, and
//! so does its login.
//!
//! Facts: containers-auth.json(5), whose form docker's `config.json` shares.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use masterchief_contract::Secret;
use serde_json::json;

use super::class::{Class, Failure};
use super::settings::Registry;
use super::workbench::Tool;

/// The folder in a step's folder.
pub(super) const FOLDER: &str = "login";

/// A login. Whoever waited for the command removes it; what is left by a step that was given up goes with its run.
pub(super) struct Login {
    folder: PathBuf,
    /// Nobody where the registry wants none: then what is configured on this machine counts.
    named: bool,
}

impl Login {
    /// Writes the login for a registry into a step's folder.
    pub(super) fn write(registry: &Registry, folder: &Path) -> Result<Login, Failure> {
        let folder = folder.join(FOLDER);
        let (Some(user), Some(password)) = (&registry.user, &registry.password) else {
            return Ok(Login { folder, named: false });
        };
        let login = Login { folder, named: true };
        let auth = STANDARD.encode(format!("{user}:{}", password.reveal()));
        let text = json!({"auths": {Login::host(registry): {"auth": auth}}}).to_string();
        // The command of a bot that is gone may be reading it.
        if std::fs::read_to_string(login.file()).is_ok_and(|there| there == text) {
            return Ok(login);
        }
        login.remove();
        let written = std::fs::DirBuilder::new().mode(0o700).create(&login.folder).and_then(|()| {
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(login.file())?;
            file.write_all(text.as_bytes())
        });
        written.map_err(|fault| {
            Failure::new(Class::Config, format!("the login for the registry cannot be written: {fault}"))
        })?;
        Ok(login)
    }

    /// The host and port of a registry, without the path.
    pub(super) fn host(registry: &Registry) -> &str {
        registry.address.split('/').next().unwrap_or(&registry.address)
    }

    /// Tells a tool where the login is.
    pub(super) fn hand_over(&self, tool: Tool, argv: &mut Vec<String>, env: &mut Vec<(String, Secret)>) {
        match tool {
            _ if !self.named => {}
            Tool::Buildah | Tool::Podman => argv.extend(["--authfile".to_owned(), self.file().display().to_string()]),
            Tool::Docker => env.push(("DOCKER_CONFIG".to_owned(), Secret::new(self.folder.display().to_string()))),
        }
    }

    /// The command ended.
    pub(super) fn remove(&self) {
        // Without a login there is nothing to remove.
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    fn file(&self) -> PathBuf {
        self.folder.join("config.json")
    }
}
