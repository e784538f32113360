//! `.+noteign`, `.-noteign`, `.noteigns`: whose notes one does not take.

use masterchief_contract::{CaseMap, HandlerError, wild_match};

use super::{Asked, Command, sorry};
use crate::users::User;

pub(super) static COMMANDS: &[Command] = &[
    row!(
        Anywhere,
        "+noteign",
        "-",
        "<mask>",
        "Takes no notes of handles that meet a mask, as in bob, *@HubBot: who writes one is told so",
        plus
    ),
    row!(Anywhere, "-noteign", "-", "<mask>", "Takes notes of them again", minus),
    row!(Anywhere, "noteigns", "-", "", "Lists whose notes you do not take", list),
];

/// The setting of a record that keeps the masks.
const SETTING: &str = "noteign";
/// Masks that one may have, and the longest, in bytes.
const MASKS_MAX: usize = 50;
const MASK_MAX: usize = 100;

type Lines = Result<Vec<String>, HandlerError>;

/// Whether somebody takes no notes of this sender.
pub(super) fn ignores(user: &User, from: &str) -> bool {
    masks(user).any(|mask| wild_match(mask, from, CaseMap::Rfc1459))
}

fn masks(user: &User) -> impl Iterator<Item = &str> {
    user.settings.get(SETTING).map(String::as_str).unwrap_or_default().split_whitespace()
}

async fn keep(asked: &Asked, user: User, masks: &[String]) -> Result<(), HandlerError> {
    let masks = Some(masks.join(" ")).filter(|masks| !masks.is_empty());
    asked.put_setting(user, SETTING, masks).await
}

async fn plus(asked: &Asked) -> Lines {
    let (user, mask) = (asked.record()?, asked.arg("mask"));
    let mut all: Vec<String> = masks(&user).map(str::to_owned).collect();
    if all.iter().any(|known| CaseMap::Rfc1459.eq(known, mask)) {
        return sorry(format!("you take no notes of {mask} already"));
    }
    if all.len() >= MASKS_MAX || mask.len() > MASK_MAX {
        return sorry(format!("there are at most {MASKS_MAX} masks, of {MASK_MAX} bytes; .-noteign takes one out"));
    }
    all.push(mask.to_owned());
    keep(asked, user, &all).await?;
    Ok(vec![format!("You take no notes of {mask} any more.")])
}

async fn minus(asked: &Asked) -> Lines {
    let (user, mask) = (asked.record()?, asked.arg("mask"));
    let (gone, rest): (Vec<String>, Vec<String>) =
        masks(&user).map(str::to_owned).partition(|known| CaseMap::Rfc1459.eq(known, mask));
    if gone.is_empty() {
        return sorry(format!("there is no {mask}; .noteigns lists what there is"));
    }
    keep(asked, user, &rest).await?;
    Ok(vec![format!("You take notes of {mask} again.")])
}

async fn list(asked: &Asked) -> Lines {
    let user = asked.record()?;
    let all: Vec<&str> = masks(&user).collect();
    Ok(vec![if all.is_empty() {
        "You take notes of everybody.".to_owned()
    } else {
        format!("You take no notes of {}.", all.join(" "))
    }])
}
