//! `.newpass`, `.chpass`, `.totp`: passwords and authenticators. What is typed behind them is written down nowhere.

use masterchief_contract::{HandlerError, Secret, user_error};

use super::{Asked, Command, Reach, sorry};
use crate::users::{PasswordHash, Totp, User};

pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "newpass",
        flags: "-",
        usage: "",
        help: "Changes your password: .newpass NEW PASSWORD",
        reach: Reach::Secret(0),
        run: |asked| Box::pin(async move { newpass(&asked).await }),
    },
    Command {
        name: "chpass",
        flags: "m",
        usage: "<handle>",
        help: "Changes somebody's password: .chpass HANDLE NEW PASSWORD; without one it is taken away",
        reach: Reach::Secret(1),
        run: |asked| Box::pin(async move { chpass(&asked).await }),
    },
    Command {
        name: "totp",
        flags: "-",
        usage: "",
        help: "Asks for a code of your authenticator at every login from now on: .totp new, then .totp CODE; .totp off CODE ends it",
        reach: Reach::Secret(0),
        run: |asked| Box::pin(async move { totp(&asked).await }),
    },
];

/// The setting that holds a new authenticator's secret until its first code was shown.
const PENDING: &str = "totp-new";

type Lines = Result<Vec<String>, HandlerError>;

async fn hashed(password: String) -> Result<PasswordHash, HandlerError> {
    let hashing = tokio::task::spawn_blocking(move || PasswordHash::new(&Secret::new(password)));
    let hash = hashing.await.map_err(HandlerError::internal)?;
    hash.map_err(|fault| user_error(fault.to_string()))
}

/// The record of who asks.
fn own(asked: &Asked) -> Result<User, HandlerError> {
    asked
        .user(asked.handle())
        .map_err(|_| user_error("you are here with the bot's own password and have no record; make one with .+user"))
}

async fn newpass(asked: &Asked) -> Lines {
    let mut user = own(asked)?;
    // Whoever has the handle by then may be somebody else: it is written over this record only.
    user.password = Some(hashed(asked.secret()).await?);
    asked.put(user).await?;
    Ok(vec!["Your password is changed.".to_owned()])
}

async fn chpass(asked: &Asked) -> Lines {
    let mut user = asked.user_below(asked.arg("handle"))?;
    let (handle, password) = (user.handle.clone(), asked.secret());
    // Whoever has the handle by then may be somebody else: it is written over this record only.
    user.password = if password.is_empty() { None } else { Some(hashed(password).await?) };
    let has = user.password.is_some();
    asked.put(user).await?;
    Ok(vec![if has { format!("{handle} has a new password.") } else { format!("{handle} has no password any more.") }])
}

async fn totp(asked: &Asked) -> Lines {
    let mut user = own(asked)?;
    let now = asked.desk.party.clock().now().timestamp();
    let secret = asked.secret();
    let mut words = secret.split_whitespace();
    match (words.next().unwrap_or(""), words.next()) {
        ("", _) => Ok(vec![match user.totp {
            Some(_) => "Your logins want a code. .totp off CODE ends that.".to_owned(),
            None => "Your logins want no code. .totp new begins it.".to_owned(),
        }]),
        ("new", _) if user.totp.is_some() => sorry("your logins want a code already; .totp off CODE ends that"),
        ("new", _) => {
            let totp = Totp::new().map_err(|fault| user_error(fault.to_string()))?;
            let bot = asked.desk.party.bot();
            // To this session and nobody else: what is answered has every secret hidden, and this is one.
            let idx = asked.session()?;
            let uri = totp.uri(&bot, &user.handle);
            let secret = totp.as_stored().to_owned();
            user.settings.insert(PENDING.to_owned(), secret.clone());
            asked.put(user).await?;
            asked.desk.party.tell(idx, &format!("Put this into your authenticator: {secret}"));
            asked.desk.party.tell(idx, &format!("or: {uri}"));
            Ok(vec!["Then show me the code it shows: .totp CODE. Until then nothing changes.".to_owned()])
        }
        ("off", code) => {
            let fits = user.totp.as_ref().is_some_and(|totp| totp.check(code.unwrap_or(""), now).is_some());
            if !fits {
                return sorry(
                    "show a code that fits: .totp off CODE; who runs the bot takes it away with `masterchief users edit HANDLE --no-totp`",
                );
            }
            user.totp = None;
            asked.put(user).await?;
            Ok(vec!["Your logins want no code any more.".to_owned()])
        }
        (code, _) => {
            let pending = user.settings.remove(PENDING).map(|text| Totp::stored(&text));
            let Some(totp) = pending.filter(|totp| totp.check(code, now).is_some()) else {
                return sorry("that code does not fit; .totp new begins again");
            };
            user.totp = Some(totp);
            asked.put(user).await?;
            Ok(vec![
                "Your logins want a code from now on; write it behind the password where nobody asks: PASSWORD:123456"
                    .to_owned(),
            ])
        }
    }
}
