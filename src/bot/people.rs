//! Users between the book, which judges, and the store, which keeps.

use crate::store::{Mark, Sharing, Store, StoreError, UserRow};
use crate::users::{FlagFault, FlagSet, Given, PasswordHash, Totp, User};

/// How often it is looked again where others write all the time.
const LOOKS: usize = 20;

/// Said of the bot with which somebody came who is called otherwise there.
const APART: &str = "apart";

/// Why the users cannot be read, or changed.
#[derive(Debug, thiserror::Error)]
pub enum PeopleError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record holds flags that are none.
    #[error("the record of {handle} is damaged: {fault}")]
    Damaged {
        /// Whose.
        handle: String,
        /// What is wrong.
        fault: FlagFault,
    },
    /// Somebody was to be new.
    #[error("there is a {0} already")]
    There(String),
    /// Somebody else has changed the record, here or in another process.
    #[error(
        "the record of {0} has changed meanwhile; look at it and give the command once more. If it looks as before after \
         a few seconds, people were changed by another process and are not taken here: the log says why (.console +o); \
         mend that with `masterchief users`, or .rehash if it is the policy that has changed"
    )]
    Changed(String),
}

/// All users of the store.
pub async fn read_users(store: &Store) -> Result<Vec<User>, PeopleError> {
    store.users().await?.into_iter().map(user_of).collect()
}

/// Writes one person as they are after a change: somebody new, another record, another handle, or nobody any more. What has become another
/// than `before` since it was looked at, here or in another process, is not written over.
pub async fn change_user(store: &Store, before: Option<&User>, after: Option<&User>) -> Result<(), PeopleError> {
    let mut sharing = Sharing { puts: after.map(row_of).into_iter().collect(), ..Sharing::default() };
    let mut looked = Vec::with_capacity(2);
    if let Some(before) = before {
        looked.push((&before.handle, Some(sorted(before))));
        match after {
            Some(after) if after.handle == before.handle => {}
            Some(after) => sharing.moved.push((before.handle.clone(), after.handle.clone())),
            None => sharing.gone.push(before.handle.clone()),
        }
    }
    let is_other = |after: &&User| before.is_none_or(|before| !before.handle.eq_ignore_ascii_case(&after.handle));
    looked.extend(after.filter(is_other).map(|after| (&after.handle, None)));
    for _ in 0..LOOKS {
        let revision = store.users_revision().await?;
        for (handle, before) in &looked {
            let now = store.user(handle).await?.map(user_of).transpose()?;
            match (now.as_ref().map(sorted), before) {
                (Some(_), None) => return Err(PeopleError::There((*handle).clone())),
                (now, before) if now == *before => {}
                _ => return Err(PeopleError::Changed((*handle).clone())),
            }
        }
        if store.share(revision, &sharing).await?.is_some() {
            return Ok(());
        }
    }
    Err(PeopleError::Changed(looked.first().map_or_else(String::new, |(handle, _)| (*handle).clone())))
}

/// A record as it is stored, in the order in which it comes back.
fn sorted(user: &User) -> UserRow {
    let mut row = row_of(user);
    row.marks.sort();
    row
}

/// A record as it is stored.
pub fn row_of(user: &User) -> UserRow {
    let mark = |kind: &str, scope: &str, value: &str| Mark {
        kind: kind.to_owned(),
        scope: scope.to_owned(),
        value: value.to_owned(),
    };
    let mut marks: Vec<Mark> = Vec::new();
    marks.extend(user.accounts.iter().map(|(network, account)| mark("account", network, account)));
    marks.extend(user.certs.iter().map(|cert| mark("cert", "", cert)));
    marks.extend(user.channels.iter().map(|(channel, flags)| mark("channel", channel, &flags.to_string())));
    marks.extend(user.hosts.iter().map(|host| mark("host", "", host)));
    marks.extend(user.roles.iter().map(|role| mark("role", "", role)));
    if !user.sudo.is_empty() {
        marks.push(mark("sudo", "", &user.sudo.to_string()));
    }
    marks.extend(user.sudo_roles.iter().map(|role| mark("sudo-role", "", role)));
    marks.extend(user.settings.iter().map(|(name, value)| mark("set", name, value)));
    marks.extend(user.touched.iter().map(|at| mark("touched", "", &at.to_string())));
    marks.extend(user.given_by.iter().map(|by| mark("given-by", if by.apart { APART } else { "" }, &by.bot)));
    marks.extend(user.totp.iter().map(|totp| mark("totp", "", totp.as_stored())));
    UserRow {
        handle: user.handle.clone(),
        flags: user.flags.to_string(),
        comment: user.comment.clone(),
        password: user.password.as_ref().map(|hash| hash.as_stored().to_owned()),
        marks,
    }
}

/// The record as it is to be written over `before`: with the time, if the person is known by something else from now on.
pub fn touched(user: User, before: Option<&User>, now: i64) -> User {
    let alike = before.is_some_and(|before| user.known_alike(before));
    User { touched: if alike { user.touched } else { Some(now) }, ..user }
}

/// A stored record as a user. Marks of a kind that this version does not know are left alone, and grant nothing.
pub fn user_of(row: UserRow) -> Result<User, PeopleError> {
    let flags =
        |text: &str| FlagSet::parse(text).map_err(|fault| PeopleError::Damaged { handle: row.handle.clone(), fault });
    let mut user = User {
        handle: row.handle.clone(),
        flags: flags(&row.flags)?,
        comment: row.comment.clone(),
        password: row.password.clone().map(PasswordHash::stored),
        ..User::default()
    };
    for mark in &row.marks {
        match mark.kind.as_str() {
            "account" => user.accounts.push((mark.scope.clone(), mark.value.clone())),
            "cert" => user.certs.push(mark.value.clone()),
            "channel" => {
                user.channels.insert(mark.scope.clone(), flags(&mark.value)?);
            }
            "host" => user.hosts.push(mark.value.clone()),
            "role" => user.roles.push(mark.value.clone()),
            "sudo" => user.sudo = flags(&mark.value)?,
            "sudo-role" => user.sudo_roles.push(mark.value.clone()),
            // What cannot be read was touched just now, as far as anybody can tell.
            "touched" => user.touched = Some(mark.value.parse().unwrap_or(i64::MAX)),
            "set" => {
                user.settings.insert(mark.scope.clone(), mark.value.clone());
            }
            "given-by" => user.given_by = Some(Given { bot: mark.value.clone(), apart: !mark.scope.is_empty() }),
            "totp" => user.totp = Some(Totp::stored(&mark.value)),
            _ => {}
        }
    }
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_comes_back_from_the_store_as_he_was() {
        let mut user = User::with_account("alice", "libera", "alice", "mo").unwrap();
        user.add_cert(&"ab".repeat(32)).unwrap();
        user.add_host("*!alice@*.example").unwrap();
        user.change_channel_flags("libera/#ops", "+o").unwrap();
        user.roles.push("deployer".to_owned());
        user.totp = Some(Totp::new().unwrap());
        user.settings.insert("page".to_owned(), "20".to_owned());
        user.comment = "of the night shift".to_owned();
        user.change_sudo("+n").unwrap();
        user.sudo_roles.push("oncall".to_owned());
        user.touched = Some(1_772_452_800_000);
        for apart in [false, true] {
            user.given_by = Some(Given { bot: "HubBot".to_owned(), apart });
            assert_eq!(user_of(row_of(&user)).unwrap(), user);
        }
        let damaged = UserRow { handle: "x".to_owned(), flags: "1".to_owned(), ..UserRow::default() };
        assert!(user_of(damaged).is_err());
    }

    #[tokio::test]
    async fn what_somebody_else_has_changed_meanwhile_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        for store in [Store::memory(), Store::open(&folder.path().join("people.db")).await.unwrap()] {
            let alice = User { hosts: vec!["*!b@x".to_owned(), "*!a@x".to_owned()], ..User::new("alice").unwrap() };
            let change = async |before, after| change_user(&store, before, after).await;
            change(None, Some(&alice)).await.unwrap();
            let fault = change(None, Some(&alice)).await.unwrap_err().to_string();
            assert!(fault.contains("already"), "somebody made it first: {fault}");
            let said = User { comment: "of the night shift".to_owned(), ..alice.clone() };
            change(Some(&alice), Some(&said)).await.unwrap();
            let fault = change(Some(&alice), Some(&alice)).await.unwrap_err().to_string();
            assert!(fault.contains("once more"), "{fault}");
            let bob = User::new("bob").unwrap();
            change(None, Some(&bob)).await.unwrap();
            let other = User { handle: "Bob".to_owned(), ..said.clone() };
            let fault = change(Some(&said), Some(&other)).await.unwrap_err().to_string();
            assert!(fault.contains("already"), "the handle is somebody else's: {fault}");
            let big = User { handle: "ALICE".to_owned(), ..said.clone() };
            change(Some(&said), Some(&big)).await.unwrap();
            let alicia = User { handle: "alicia".to_owned(), ..said.clone() };
            change(Some(&big), Some(&alicia)).await.unwrap();
            change(Some(&alicia), None).await.unwrap();
            assert!(change(Some(&alicia), Some(&alicia)).await.is_err(), "it does not come back");
            change(Some(&bob), None).await.unwrap();
            assert_eq!(store.users().await.unwrap(), []);
        }
    }
}
