//! `.away` and `.back`.

use masterchief_contract::HandlerError;

use super::{Asked, Command, Reach};

pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "away",
        flags: "-",
        usage: "[words...]",
        help: "Tells the others that you are away; notes wait for you then",
        reach: Reach::Here,
        run: |asked| Box::pin(async move { away(&asked) }),
    },
    Command {
        name: "back",
        flags: "-",
        usage: "",
        help: "Tells the others that you are back",
        reach: Reach::Here,
        run: |asked| Box::pin(async move { back(&asked) }),
    },
];

fn away(asked: &Asked) -> Result<Vec<String>, HandlerError> {
    let words = asked.arg("words");
    if words.is_empty() {
        return back(asked);
    }
    asked.desk.party.away(asked.session()?, Some(words));
    Ok(vec!["You are away.".to_owned()])
}

fn back(asked: &Asked) -> Result<Vec<String>, HandlerError> {
    asked.desk.party.away(asked.session()?, None);
    Ok(vec!["You are back.".to_owned()])
}
