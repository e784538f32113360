//! Real Eggdrops on the loopback: each in a folder of its own, without IRC, driven over its partyline.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::servers::{Server, free_port, listens};

/// How long an Eggdrop may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);
/// Nobody: an Eggdrop refuses to run as root.
const NOBODY: u32 = 65_534;

/// A running Eggdrop. Its owner is `owner`, another person of it `bob`.
pub(crate) struct Egg {
    pub(crate) name: String,
    /// Where bots and people come in clear.
    pub(crate) port: u16,
    /// Where they come with TLS.
    pub(crate) tls: u16,
    dir: tempfile::TempDir,
    _server: Server,
}

/// Somebody on its partyline.
pub(crate) struct Party {
    stream: TcpStream,
    text: String,
    /// Up to where it was expected.
    read: usize,
}

/// A bot that an Eggdrop knows: name and port.
pub(crate) struct Friend<'a>(pub(crate) &'a str, pub(crate) u16);

impl Egg {
    /// Starts one that knows these bots.
    pub(crate) async fn start(name: &str, friends: &[Friend<'_>]) -> Egg {
        let dir = tempfile::tempdir().unwrap();
        let (port, tls) = (free_port(), free_port());
        let folder = dir.path().display().to_string();
        let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).unwrap();
        write("bot.conf", &config(name, &folder, port, tls));
        write("seed.tcl", &seed(&folder, friends));
        write("bot.user", &format!("#4v: eggdrop v1.8.4 -- {name} -- written for a test\n"));
        write("bot.chan", "");
        write("motd", &format!("motd of {name}\n"));
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        write("eggdrop.crt", &params.self_signed(&key).unwrap().pem());
        write("eggdrop.key", &key.serialize_pem());
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let config = format!("{folder}/bot.conf");
        let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
        let server = if root {
            assert!(Command::new("chown").args(["-R", &NOBODY.to_string(), &folder]).status().unwrap().success());
            let id = NOBODY.to_string();
            // The right to read stays, for machines whose folders are not everybody's.
            let caps = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"];
            let who = ["--reuid", &id, "--regid", &id, "--clear-groups"];
            let args = [who.as_slice(), &caps, &["eggdrop", "-n", &config]].concat();
            Server::start("setpriv", &args, &[], dir.path())
        } else {
            Server::start("eggdrop", &["-n", &config], &[], dir.path())
        };
        let egg = Egg { name: name.to_owned(), port, tls, dir, _server: server };
        listens(port).await;
        egg.logs("SEEDED").await;
        egg
    }

    /// What its scripts have written down until now: its own log comes once a minute.
    pub(crate) fn log(&self) -> String {
        let bytes = std::fs::read(self.dir.path().join("lab.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its user file, as it has last saved it.
    pub(crate) fn userfile(&self) -> std::path::PathBuf {
        self.dir.path().join("bot.user")
    }

    /// Ready when its log holds this.
    pub(crate) async fn logs(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            assert!(Instant::now() < end, "{} does not log `{text}`:\n{}", self.name, self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Its owner comes to its partyline.
    pub(crate) async fn owner(&self) -> Party {
        self.party("owner", "ownerpw").await
    }

    /// Somebody comes to its partyline.
    pub(crate) async fn party(&self, handle: &str, password: &str) -> Party {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let mut party = Party { stream, text: String::new(), read: 0 };
        party.expect("Please enter your").await;
        party.says(handle).await;
        party.expect("Enter your password").await;
        party.says(password).await;
        party.expect("joined the party line").await;
        party.says(".console +mcobx").await;
        party.expect("Set your console").await;
        party
    }
}

impl Party {
    pub(crate) async fn says(&mut self, line: &str) {
        self.stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// Ready when this comes; gives its line.
    pub(crate) async fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.text[self.read..].find(text) {
                let at = self.read + at;
                let begin = self.text[..at].rfind('\n').map_or(0, |at| at + 1);
                // A prompt has no line end.
                let end = self.text[at..].find('\n').map_or(self.text.len(), |end| at + end);
                self.read = end;
                return self.text[begin..end].to_owned();
            }
            let mut bytes = [0; 4096];
            let read = tokio::time::timeout_at(end, self.stream.read(&mut bytes)).await;
            let read = read.unwrap_or_else(|_| panic!("`{text}` does not come:\n{}", self.text)).unwrap();
            assert!(read > 0, "it closed before `{text}`:\n{}", self.text);
            let seen: String = String::from_utf8_lossy(&bytes[..read]).chars().filter(|c| *c != '\r').collect();
            self.text.push_str(&seen);
        }
    }

    /// Says something and gives what comes within a moment.
    pub(crate) async fn hears(&mut self, line: &str) -> String {
        self.says(line).await;
        let begin = self.text.len();
        let end = Instant::now() + Duration::from_millis(600);
        let mut bytes = [0; 4096];
        while let Ok(Ok(read)) = tokio::time::timeout_at(end, self.stream.read(&mut bytes)).await {
            if read == 0 {
                break;
            }
            self.text.push_str(&String::from_utf8_lossy(&bytes[..read]).replace('\r', ""));
        }
        self.text[begin..].to_owned()
    }
}

fn config(name: &str, folder: &str, port: u16, tls: u16) -> String {
    format!(
        r#"set username "egg"
set admin "test"
set network "labnet"
set botnet-nick "{name}"
set nick "{name}"
set listen-addr "127.0.0.1"
set prefer-ipv6 0
set mod-path "/usr/lib/eggdrop/modules/"
set help-path "/usr/share/eggdrop/help/"
set motd "{folder}/motd"
set temp-path "{folder}"
set console "mcobx"
set userfile "{folder}/bot.user"
set owner "owner"
set default-flags "hp"
set must-be-owner 0
set protect-telnet 0
set ident-timeout 0
set require-p 1
set use-telnet-banner 0
set connect-timeout 15
set dcc-flood-thr 0
set telnet-flood 0:0
set dupwait-timeout 5
set remote-boots 2
set share-unlinks 1
set ssl-privatekey "{folder}/eggdrop.key"
set ssl-certificate "{folder}/eggdrop.crt"
loadmodule blowfish
loadmodule channels
set chanfile "{folder}/bot.chan"
loadmodule transfer
loadmodule share
set allow-resync 1
loadmodule notes
set notefile "{folder}/bot.notes"
loadmodule console
listen +{tls} all
listen {port} all
source {folder}/seed.tcl
"#
    )
}

/// Its people and bots, made once it runs, and what its scripts log.
fn seed(folder: &str, friends: &[Friend<'_>]) -> String {
    let mut bots = String::new();
    for Friend(name, port) in friends {
        bots.push_str(&format!(" addbot {name} 127.0.0.1 {port}\n"));
    }
    format!(
        r#"proc tell {{text}} {{ set to [open "{folder}/lab.log" a]; puts $to $text; close $to }}
proc seed {{}} {{
 adduser owner *!*@127.0.0.1; setuser owner PASS ownerpw; chattr owner +nmtopjhx
 adduser bob *!*@127.0.0.1; setuser bob PASS bobpw; chattr bob +p
{bots} save
 tell SEEDED
}}
utimer 1 seed
bind bot - labcmd lab_bot
proc lab_bot {{from cmd arg}} {{ tell "LABBOT $from $cmd $arg" }}
bind link - * lab_link
proc lab_link {{bot via}} {{ tell "LABLINK $bot $via" }}
bind disc - * lab_disc
proc lab_disc {{bot}} {{ tell "LABDISC $bot" }}
"#
    )
}
