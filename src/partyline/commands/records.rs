//! `.+user`, `.-user`, `.adduser`, `.chattr`, `.chhandle`, `.comment`, `.own`, `.+host`, `.-host`: the records of people.

use masterchief_contract::{CaseMap, HandlerError, user_error};

use super::{Asked, Command, Reach, sorry};
use crate::users::{Given, User};

pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "+user",
        flags: "m",
        usage: "<handle> [mask]",
        help: "Makes a record, with a hostmask if one is given",
        reach: Reach::Anywhere,
        run: |asked| Box::pin(async move { plus_user(&asked).await }),
    },
    Command {
        name: "-user",
        flags: "m",
        usage: "<handle>",
        help: "Removes a record",
        reach: Reach::Anywhere,
        run: |asked| Box::pin(async move { minus_user(&asked).await }),
    },
    Command {
        name: "adduser",
        flags: "m",
        usage: "<nick> [handle]",
        help: "Makes a record for somebody in a channel, known by the services account that the network vouches for",
        reach: Reach::Anywhere,
        run: |asked| Box::pin(async move { adduser(&asked).await }),
    },
    Command {
        name: "chattr",
        flags: "m|m",
        usage: "<handle> [changes] [channel]",
        help: "Shows or changes flags, as in +o-v; in a channel, as in +o libera/#ops or v|+o libera/#ops",
        reach: Reach::Anywhere,
        run: |asked| Box::pin(async move { chattr(&asked).await }),
    },
    Command {
        name: "chhandle",
        flags: "m",
        usage: "<old> <new>",
        help: "Gives a record another handle",
        reach: Reach::Anywhere,
        run: |asked| Box::pin(async move { chhandle(&asked).await }),
    },
    Command {
        name: "comment",
        flags: "m",
        usage: "<handle> [words...]",
        help: "Writes words of the operators into a record, or takes them out",
        reach: Reach::Anywhere,
        run: |asked| Box::pin(async move { comment(&asked).await }),
    },
    Command {
        name: "own",
        flags: "m",
        usage: "<handle>",
        help: "Makes a record ours that came with an Eggdrop's user file: that bot adds nothing to it any more",
        reach: Reach::Anywhere,
        run: |asked| Box::pin(async move { own(&asked).await }),
    },
    Command {
        name: "+host",
        flags: "m",
        usage: "<handle> <what>",
        help: "Adds a hostmask (nick!user@host), an account (network/account) or a certificate's SHA-256",
        reach: Reach::Anywhere,
        run: |asked| Box::pin(async move { plus_host(&asked).await }),
    },
    Command {
        name: "-host",
        flags: "m",
        usage: "<handle> <what>",
        help: "Takes a hostmask, an account or a certificate away",
        reach: Reach::Anywhere,
        run: |asked| Box::pin(async move { minus_host(&asked).await }),
    },
];

/// Flags that only owners give and take: who they make stands as high as a master, is a bot, or speaks for all.
const OWNERS: &str = "nmtub";

type Lines = Result<Vec<String>, HandlerError>;

fn wrong(fault: crate::users::UserFault) -> HandlerError {
    user_error(fault.to_string())
}

async fn plus_user(asked: &Asked) -> Lines {
    let handle = asked.arg("handle");
    if asked.desk.book.get(handle).is_some() {
        return sorry(format!("there is a {handle} already"));
    }
    let mut user = User::new(handle).map_err(wrong)?;
    if !asked.arg("mask").is_empty() {
        user.add_host(asked.arg("mask")).map_err(wrong)?;
    }
    asked.put(user).await?;
    Ok(vec![format!(
        "{handle} has a record without flags; .chattr {handle} +FLAGS and .chpass {handle} PASSWORD are next."
    )])
}

async fn minus_user(asked: &Asked) -> Lines {
    let user = asked.user_below(asked.arg("handle"))?;
    asked.desk.host.remove_user(&user).await.map_err(user_error)?;
    let party = &asked.desk.party;
    for idx in party.each(|session| (*session.handle == user.handle).then_some(session.idx)).into_iter().flatten() {
        party.boot(idx, "your record is gone");
    }
    Ok(vec![format!("{} is removed.", user.handle)])
}

async fn adduser(asked: &Asked) -> Lines {
    let nick = asked.arg("nick");
    let handle = if asked.arg("handle").is_empty() { nick } else { asked.arg("handle") };
    if asked.desk.book.get(handle).is_some() {
        // Whoever takes a nick that is a handle is not its owner.
        return sorry(format!(
            "there is a {handle} already; .+host {handle} NETWORK/ACCOUNT lets an account in there, .adduser {nick} HANDLE makes another"
        ));
    }
    let host = &asked.desk.host;
    let mut found = host.networks().into_iter().flat_map(|network| {
        let channels = network.channels.clone();
        let of = move |channel: String| (network.network.clone(), host.members(&network.network, &channel));
        channels.into_iter().map(of).collect::<Vec<_>>()
    });
    let same = |one: &str| CaseMap::Rfc1459.eq(one, nick);
    let Some((network, member)) = found.find_map(|(network, members)| {
        members.into_iter().find(|member| same(&member.nick)).map(|member| (network, member))
    }) else {
        return sorry(format!("{nick} is in no channel that the bot is in"));
    };
    let Some(account) = member.account else {
        return sorry(format!(
            "{nick} is not logged in to services; .+user {handle} NICK!USER@HOST makes a record by hostmask"
        ));
    };
    let mut user = User::new(handle).map_err(wrong)?;
    user.add_account(&format!("{network}/{account}")).map_err(wrong)?;
    asked.put(user).await?;
    Ok(vec![format!("{handle} is known as {network}/{account}; .chattr {handle} +FLAGS is next.")])
}

async fn chattr(asked: &Asked) -> Lines {
    let (changes, channel) = (asked.arg("changes"), asked.arg("channel"));
    let mut user = asked.user_below(asked.arg("handle"))?;
    // As Eggdrop has it: what stands behind the bar is for the channel.
    let (all, there) = match changes.split_once('|') {
        Some(parts) => parts,
        None if channel.is_empty() => (changes, ""),
        None => ("", changes),
    };
    if !all.is_empty() {
        may_change(asked, all, None)?;
        user.change_flags(all).map_err(wrong)?;
    }
    if !there.is_empty() {
        if channel.is_empty() {
            return sorry(format!(
                "say in which channel, as in .chattr {} {changes} NETWORK/#CHANNEL, or #CHANNEL on every network",
                user.handle
            ));
        }
        may_change(asked, there, Some(masterchief_contract::split_place(channel)))?;
        user.change_channel_flags(channel, there).map_err(wrong)?;
    }
    if !changes.is_empty() {
        asked.put(user.clone()).await?;
    }
    let mut lines = vec![format!("{} has the flags {}", user.handle, user.flags)];
    lines.extend(user.channels.iter().map(|(channel, flags)| format!("  {channel}: {flags}")));
    Ok(lines)
}

/// Owners change every flag; masters all but those that make somebody stand as high; masters of a channel those there.
fn may_change(asked: &Asked, changes: &str, place: Option<(&str, &str)>) -> Result<(), HandlerError> {
    if asked.may("n", None) || place.is_some_and(|place| asked.may("-|n", Some(place))) {
        return Ok(());
    }
    let master = asked.may("m", None) || place.is_some_and(|place| asked.may("-|m", Some(place)));
    if !master {
        return sorry("that channel is not yours; name one in which you have the flag m");
    }
    match changes.chars().find(|letter| OWNERS.contains(*letter) || *letter == '=') {
        Some(letter) => sorry(format!("only owners change {letter}")),
        None => Ok(()),
    }
}

async fn chhandle(asked: &Asked) -> Lines {
    let (old, new) = (asked.user_below(asked.arg("old"))?, asked.arg("new"));
    rename(asked, &old, new).await?;
    asked.desk.party.renamed(&[(old.handle.clone(), new.to_owned())]);
    Ok(vec![format!("{} is {new} now.", old.handle)])
}

/// Gives a record another handle, unless somebody else has it.
pub(super) async fn rename(asked: &Asked, old: &User, new: &str) -> Result<(), HandlerError> {
    let only_case = old.handle.eq_ignore_ascii_case(new);
    if !only_case && asked.desk.book.get(new).is_some() {
        return sorry(format!("there is a {new} already"));
    }
    // Whoever has such a handle approves; who makes records anyway may give it.
    if !only_case && asked.desk.book.is_named(new) && !asked.may("m", None) {
        return sorry(format!("pipelines name {new}, so only who has the flag m gives that handle; ask one of them"));
    }
    User::new(new).map_err(wrong)?;
    // The bot with which it came knows nobody of the new handle, or somebody else.
    let given_by = old.given_by.clone().filter(|_| only_case);
    let renamed = User { handle: new.to_owned(), given_by, ..old.clone() };
    asked.desk.host.rename_user(old, renamed).await.map_err(user_error)
}

async fn comment(asked: &Asked) -> Lines {
    let mut user = asked.user_below(asked.arg("handle"))?;
    user.comment = asked.arg("words").to_owned();
    let (handle, gone) = (user.handle.clone(), user.comment.is_empty());
    asked.put(user).await?;
    Ok(vec![if gone {
        format!("{handle} has no comment any more.")
    } else {
        format!("{handle} has that comment now.")
    }])
}

async fn own(asked: &Asked) -> Lines {
    let mut user = asked.user_below(asked.arg("handle"))?;
    let Some(Given { bot, .. }) = user.given_by.take() else {
        return sorry(format!("{} came with no bot, so nobody adds to it from elsewhere", user.handle));
    };
    let handle = user.handle.clone();
    asked.put(user).await?;
    Ok(vec![format!("{handle} is ours now; {bot} adds nothing to it any more.")])
}

async fn plus_host(asked: &Asked) -> Lines {
    let (mut user, what) = (asked.user_below(asked.arg("handle"))?, asked.arg("what"));
    if what.contains('!') {
        user.add_host(what).map_err(wrong)?;
    } else if what.contains('/') {
        user.add_account(what).map_err(wrong)?;
    } else {
        user.add_cert(what).map_err(wrong)?;
    }
    let handle = user.handle.clone();
    asked.put(user).await?;
    Ok(vec![format!("{handle} is known by {what} too.")])
}

async fn minus_host(asked: &Asked) -> Lines {
    let (mut user, what) = (asked.user_below(asked.arg("handle"))?, asked.arg("what"));
    let count = |user: &User| user.hosts.len() + user.accounts.len() + user.certs.len();
    let before = count(&user);
    user.hosts.retain(|host| host != what);
    user.accounts.retain(|(network, account)| format!("{network}/{account}") != what);
    user.certs.retain(|cert| *cert != what.replace(':', "").to_ascii_lowercase());
    if count(&user) == before {
        return sorry(format!("{} has no {what}; .whois {} shows what there is", user.handle, user.handle));
    }
    let handle = user.handle.clone();
    asked.put(user).await?;
    Ok(vec![format!("{handle} is not known by {what} any more.")])
}
