//! Whether two patterns of paths may name the same file.

/// A letter of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Letter {
    Is(char),
    /// Any one: `?`, and `[...]`, of which it is not asked which.
    Any,
    /// Any number of any.
    Run,
}

/// Alternatives that are told apart at most; beyond that `{...}` stands for anything.
const ALTERNATIVES: usize = 64;

/// Whether there may be a path that both name. In doubt there may.
pub(crate) fn overlap(one: &str, other: &str) -> bool {
    let (one, other) = (alternatives(one), alternatives(other));
    one.iter().any(|one| other.iter().any(|other| paths(one, other)))
}

fn paths(one: &str, other: &str) -> bool {
    let (one, other): (Vec<&str>, Vec<&str>) = (one.split('/').collect(), other.split('/').collect());
    meet(
        &one,
        &other,
        |part| *part == "**",
        |one, other| {
            let (one, other) = (letters(one), letters(other));
            meet(
                &one,
                &other,
                |letter| *letter == Letter::Run,
                |one, other| one == other || *one == Letter::Any || *other == Letter::Any,
            )
        },
    )
}

/// Whether something fits both rows, of which some things stand for any number of anything.
fn meet<T>(one: &[T], other: &[T], many: impl Fn(&T) -> bool, same: impl Fn(&T, &T) -> bool) -> bool {
    let width = other.len() + 1;
    let mut fits = vec![false; (one.len() + 1) * width];
    for i in (0..=one.len()).rev() {
        for j in (0..=other.len()).rev() {
            let at = |i: usize, j: usize| fits.get(i * width + j).copied().unwrap_or(false);
            let (mine, theirs) = (one.get(i), other.get(j));
            let fit = match (mine, theirs) {
                (None, None) => true,
                (Some(mine), None) => many(mine) && at(i + 1, j),
                (None, Some(theirs)) => many(theirs) && at(i, j + 1),
                // What stands for many takes nothing more, or one more of the other.
                (Some(mine), Some(theirs)) if many(mine) || many(theirs) => at(i + 1, j) || at(i, j + 1),
                (Some(mine), Some(theirs)) => same(mine, theirs) && at(i + 1, j + 1),
            };
            fits[i * width + j] = fit;
        }
    }
    fits[0]
}

fn letters(part: &str) -> Vec<Letter> {
    let mut out = Vec::new();
    let mut rest = part.chars();
    while let Some(letter) = rest.next() {
        out.push(match letter {
            '*' => Letter::Run,
            '?' => Letter::Any,
            '\\' => rest.next().map_or(Letter::Is('\\'), Letter::Is),
            '[' => {
                // A bracket that is the first of its kind belongs to them.
                let mut count = 0;
                for one in rest.by_ref() {
                    if one == ']' && count > 0 {
                        break;
                    }
                    count += usize::from(!(count == 0 && matches!(one, '!' | '^')));
                }
                Letter::Any
            }
            letter => Letter::Is(letter),
        });
    }
    out
}

/// A pattern without `{...}`, once for each alternative.
fn alternatives(pattern: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(pattern) = open.pop() {
        let Some((start, end, choices)) = braces(&pattern) else {
            done.push(pattern);
            continue;
        };
        let (before, behind) = (&pattern[..start], &pattern[end..]);
        if done.len() + open.len() + choices.len() > ALTERNATIVES {
            open.push(format!("{before}*{behind}"));
        } else {
            open.extend(choices.iter().map(|choice| format!("{before}{choice}{behind}")));
        }
    }
    done
}

/// The first `{...}`: where it begins and ends, and what it leaves to choose.
fn braces(pattern: &str) -> Option<(usize, usize, Vec<String>)> {
    let start = pattern.find('{')?;
    let (mut depth, mut from, mut choices) = (0_u32, start + 1, Vec::new());
    for (at, letter) in pattern.char_indices().skip_while(|(at, _)| *at < start) {
        match letter {
            '{' => depth += 1,
            ',' if depth == 1 => {
                choices.push(pattern[from..at].to_owned());
                from = at + 1;
            }
            '}' if depth == 1 => {
                choices.push(pattern[from..at].to_owned());
                return Some((start, at + 1, choices));
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_may_name_the_same_file_are_known() {
        for (one, other) in [
            ("/data/*.json", "/data/*.json"),
            ("/data/*.json", "/data/a*"),
            ("/data/**/*.json", "/data/in/b.json"),
            ("/data/**/*.json", "/data/b.json"),
            ("/data/**", "/*/in/[a-c]?.csv"),
            ("/data/{a,b}/*.csv", "/data/b/x.csv"),
            ("/data/*.{csv,json}", "/data/x.json"),
            ("/**/a/**/x", "/b/**/a/x"),
        ] {
            assert!(overlap(one, other) && overlap(other, one), "{one} {other}");
        }
        for (one, other) in [
            ("/data/*.json", "/data/*.csv"),
            ("/data/*.json", "/data/in/a.json"),
            ("/data/**/*.json", "/date/in/a.json"),
            ("/data/{a,b}/*.csv", "/data/c/x.csv"),
            ("/data/a?", "/data/abc"),
        ] {
            assert!(!overlap(one, other) && !overlap(other, one), "{one} {other}");
        }
        let many = format!("/data/{}", "{a,b,c}".repeat(20));
        assert!(overlap(&many, "/data/abc"), "in doubt it may");
    }

    proptest::proptest! {
        #[test]
        fn what_both_match_overlaps(one in "/[ab*?]{1,4}(/[ab*?]{1,3})?", other in "/[ab*?]{1,4}(/[ab*?]{1,3})?", path in "/[ab]{1,4}(/[ab]{1,3})?") {
            let is = |pattern: &str| {
                crate::paths::Pattern::parse(pattern).is_ok_and(|pattern| pattern.is_match(std::path::Path::new(&path)))
            };
            if is(&one) && is(&other) {
                proptest::prop_assert!(overlap(&one, &other), "{} {} {}", one, other, path);
            }
        }
    }
}
