//! `.help`: what one may do here, and no more.

use masterchief_contract::{CaseMap, FlagScope, closest};

use super::{Asked, Command, Reach, sorry};
use crate::dispatch::BindRow;
use crate::partyline::kinds::DCC;

pub(super) static COMMANDS: &[Command] = &[Command {
    name: "help",
    flags: "-",
    usage: "[command]",
    help: "Lists the commands you may use, explains one, or lists those that begin so",
    reach: Reach::Anywhere,
    run: |asked| Box::pin(async move { help(&asked) }),
}];

/// Commands in one line.
const IN_A_ROW: usize = 8;

fn help(asked: &Asked) -> Result<Vec<String>, masterchief_contract::HandlerError> {
    let mut rows = asked.desk.table.rows();
    let (network, chan) = (&asked.event.network, asked.event.chan());
    rows.retain(|row| {
        let may = || asked.standing.allows(&row.flags, FlagScope::AnyChannel, network, chan, CaseMap::Rfc1459);
        row.kind == DCC && !row.shadowed && may()
    });
    rows.sort_by(|one, other| one.mask.cmp(&other.mask));
    let wanted = asked.arg("command").trim_start_matches('.');
    if wanted.is_empty() {
        let names: Vec<String> = rows.iter().map(|row| format!(".{}", row.mask)).collect();
        let mut lines = vec![format!("You may use {} commands; .help COMMAND explains one:", names.len())];
        lines.extend(
            names
                .chunks(IN_A_ROW)
                .map(|row| row.iter().map(|name| format!("{name:<11}")).collect::<String>().trim_end().to_owned()),
        );
        lines.push("Words with ! are for #ops and for the bot in private: !help.".to_owned());
        return Ok(lines);
    }
    let found = rows.iter().find(|row| row.mask.eq_ignore_ascii_case(wanted));
    let near: Vec<_> = rows
        .iter()
        .filter(|row| row.mask.get(..wanted.len()).is_some_and(|at| at.eq_ignore_ascii_case(wanted)))
        .collect();
    if found.is_none() && !near.is_empty() {
        let usage = |row: &BindRow| row.usage.clone().unwrap_or_default();
        return Ok(near.iter().map(|row| format!(".{} {}", row.mask, usage(row)).trim_end().to_owned()).collect());
    }
    let Some(row) = found else {
        let close = closest(wanted, rows.iter().map(|row| &*row.mask)).map(|close| format!("; did you mean .{close}?"));
        return sorry(format!("there is no .{wanted} that you may use{}", close.unwrap_or_default()));
    };
    let usage =
        row.usage.as_deref().filter(|usage| !usage.is_empty()).map(|usage| format!(" {usage}")).unwrap_or_default();
    let mut lines = vec![format!(".{}{usage}", row.mask)];
    lines.extend(row.help.clone());
    if !row.flags.is_open() {
        lines.push(format!("It needs the flags {}.", row.flags));
    }
    Ok(lines)
}
