//! Lines that chance has bent: what comes from outside, and a little more.

use super::chance::Dice;

/// One line of the corpus, or what chance makes of it.
pub(super) fn line(dice: &mut Dice, corpus: &[&str]) -> Vec<u8> {
    let mut line = dice.of(corpus).as_bytes().to_vec();
    while dice.one_in(2) {
        let (from, to) = (dice.below(line.len() + 1), dice.below(line.len() + 1));
        let (from, to) = (from.min(to), from.max(to));
        match dice.below(8) {
            0 => drop(line.drain(from..to)),
            1 => line
                .splice(from..from, (0..dice.below(9)).map(|_| dice.next() as u8).collect::<Vec<_>>())
                .for_each(drop),
            2 => {
                let part = line[from..to].repeat(1 + dice.below(20));
                line.splice(from..from, part).for_each(drop);
            }
            3 => {
                let other = dice.of(corpus).as_bytes();
                let start = dice.below(other.len());
                line.splice(from..to, other[start..].iter().copied()).for_each(drop);
            }
            4 => words(dice, &mut line, corpus),
            5 if !line.is_empty() => {
                let at = dice.below(line.len());
                line[at] ^= 1 << dice.below(8);
            }
            6 => line[from..to].make_ascii_lowercase(),
            _ => line.truncate(to),
        }
        line.truncate(20_000);
    }
    line
}

/// One word of a line in the place of another line's.
fn words(dice: &mut Dice, line: &mut Vec<u8>, corpus: &[&str]) {
    let other: Vec<&str> = dice.of(corpus).split(' ').collect();
    let new = dice.of(&other).as_bytes().to_vec();
    let mut parts: Vec<Vec<u8>> = line.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect();
    let at = dice.below(parts.len());
    parts[at] = new;
    *line = parts.join(&b' ');
}
