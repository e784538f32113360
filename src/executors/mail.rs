//! Mail, handed to a program that takes it as sendmail does: the addresses as arguments, the message on standard input.
//!
//! RFC 5322 for the message, RFC 2047 for a subject that is not ASCII, RFC 3834 so that no machine answers.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How long the program may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a subject that stand in one encoded word, so that it stays below the 75 characters it may have.
const WORD: usize = 42;
/// The longest subject, in characters.
const SUBJECT: usize = 200;

/// A message.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The program: `/usr/sbin/sendmail`.
    pub program: PathBuf,
    /// Whose it is: an address.
    pub from: String,
    /// Whom it is for: addresses.
    pub to: Vec<String>,
    /// What it is about.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The same for a message that is tried again.
    pub key: String,
    /// When it was written.
    pub at: DateTime<Utc>,
}

/// Whether a text is an address that can do no harm as an argument and in a header.
pub fn is_address(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-=@".contains(c);
    let (name, host) = text.split_once('@').unwrap_or_default();
    !name.is_empty() && !host.is_empty() && !host.contains('@') && !text.starts_with('-') && text.chars().all(plain)
}

impl Mail {
    /// The message as it is sent. What came from outside stands in one line of a header, or in the text.
    fn message(&self) -> String {
        let host = self.from.rsplit('@').next().unwrap_or("localhost");
        let key: String = self.key.bytes().map(|byte| format!("{byte:02x}")).collect();
        let lines = [
            format!("From: {}", self.from),
            format!("To: {}", self.to.join(", ")),
            format!("Subject: {}", encoded(&self.subject)),
            format!("Date: {}", self.at.to_rfc2822()),
            format!("Message-ID: <{key}@{host}>"),
            "Auto-Submitted: auto-generated".to_owned(),
            "MIME-Version: 1.0".to_owned(),
            "Content-Type: text/plain; charset=utf-8".to_owned(),
            "Content-Transfer-Encoding: base64".to_owned(),
        ];
        // A line of IRC may be longer than one of mail.
        let text = STANDARD.encode(format!("{}\n", self.text));
        let text: Vec<&str> = text.as_bytes().chunks(76).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("{}\n\n{}\n", lines.join("\n"), text.join("\n"))
    }

    /// Hands it over; else what is wrong, with the next step.
    pub async fn send(&self) -> Result<(), String> {
        let program = self.program.display();
        if let Some(bad) = self.to.iter().chain([&self.from]).find(|address| !is_address(address)) {
            return Err(format!("{bad:?} is no address; write name@host"));
        }
        let mut child = Command::new(&self.program)
            .args(["-i", "-f", &self.from, "--"])
            .args(&self.to)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|fault| {
                format!("{program} cannot be started: {fault}; name another under pipelines.mail.program")
            })?;
        let input = child.stdin.take();
        let work = async {
            if let Some(mut input) = input {
                // A program that reads nothing says why by how it ends.
                let _ = input.write_all(self.message().as_bytes()).await;
            }
            child.wait_with_output().await
        };
        match tokio::time::timeout(PATIENCE, work).await {
            Err(_) => Err(format!("{program} did not take a message within {} s", PATIENCE.as_secs())),
            Ok(Err(fault)) => Err(format!("{program}: {fault}")),
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let said = said.lines().next().unwrap_or("it said nothing").chars().take(200).collect::<String>();
                Err(format!("{program} refused a message ({}): {said}", output.status))
            }
        }
    }
}

/// A text as a header may have it: one line, and words of RFC 2047 where it is not plain ASCII.
fn encoded(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SUBJECT).collect();
    if line.is_ascii() && !line.contains("=?") && line.len() <= 120 {
        return line;
    }
    let (mut words, mut word) = (Vec::new(), String::new());
    for c in line.chars() {
        if word.len() + c.len_utf8() > WORD {
            words.push(std::mem::take(&mut word));
        }
        word.push(c);
    }
    words.push(word);
    let words: Vec<String> = words.iter().map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word))).collect();
    words.join("\n ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(subject: &str) -> Mail {
        Mail {
            program: "/usr/sbin/sendmail".into(),
            from: "chief@example.org".to_owned(),
            to: vec!["oncall@example.org".to_owned()],
            subject: subject.to_owned(),
            text: "it failed\nBcc: all@example.org".to_owned(),
            key: "118:3:mail:oncall".to_owned(),
            at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_a_log_says_never_becomes_a_header() {
        for subject in
            ["hi\r\nBcc: all@example.org", "hi\nBcc: all@example.org\n\nbody", "hi\u{2028}there", "größe\r\nX: y"]
        {
            let message = mail(subject).message();
            let (head, body) = message.split_once("\n\n").unwrap();
            let names: Vec<&str> = head
                .lines()
                .filter(|line| !line.starts_with(' '))
                .map(|line| line.split(':').next().unwrap())
                .collect();
            let wanted = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version"];
            assert_eq!(names[..7], wanted, "{message}");
            assert_eq!(names.len(), 9, "{message}");
            let body: String = body.lines().collect();
            assert_eq!(STANDARD.decode(body).unwrap(), b"it failed\nBcc: all@example.org\n");
        }
        assert!(mail("plain").message().contains("\nSubject: plain\n"));
    }

    #[test]
    fn an_address_is_neither_an_option_nor_more_than_one() {
        assert!(is_address("on-call+mc@example.org") && is_address("root@localhost"));
        for bad in ["-oQ/tmp@example.org", "a@b@c", "a b@c", "a@b\nBcc: x@y", "@b", "a@", "a", "a@b,c@d", "a@b;id"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
