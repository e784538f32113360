//! The mask of a metric: `ORIGIN[@CONN]:QUERY CMP NUMBER [for T] [clear CMP NUMBER [for T]] [every T] [nodata keep|ok|fire]`.

use std::time::Duration;

use masterchief_contract::MaskFault;

use crate::mask::{Cmp, duration, number};

/// How often a query is asked where a mask does not say so.
const EVERY: Duration = Duration::from_secs(30);
/// The shortest time between two queries.
const EVERY_MIN: Duration = Duration::from_millis(100);

/// Where numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Prometheus,
    Influx,
    Statsd,
}

/// What it means that a series, or all of them, are not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum NoData {
    /// Nothing changes.
    #[default]
    Keep,
    /// All is well.
    Ok,
    /// That is an alarm of its own.
    Fire,
}

/// A mask in its parts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rule {
    /// As it was written.
    pub(super) text: String,
    pub(super) origin: Origin,
    pub(super) conn: String,
    pub(super) query: String,
    pub(super) cmp: Cmp,
    pub(super) threshold: f64,
    /// How long it must hold before it fires.
    pub(super) hold: Duration,
    /// What must hold for it to be over; the opposite of the first where nothing is said.
    pub(super) clear: Option<(Cmp, f64)>,
    /// How long that must hold.
    pub(super) clear_hold: Duration,
    pub(super) every: Duration,
    pub(super) nodata: NoData,
}

/// A piece of a mask and where it begins.
#[derive(Clone, Copy, Debug)]
struct Piece<'a> {
    text: &'a str,
    at: usize,
}

/// Splits at blanks outside of quotes and brackets.
fn pieces(mask: &str, from: usize) -> Result<Vec<Piece<'_>>, MaskFault> {
    let mut out = Vec::new();
    let mut start = None;
    scan(mask, from, |at, letter, deep| {
        if letter.is_whitespace() && !deep {
            out.extend(start.take().map(|start: usize| Piece { text: &mask[start..at], at: start }));
        } else if start.is_none() {
            start = Some(at);
        }
    })?;
    out.extend(start.map(|start| Piece { text: &mask[start..], at: start }));
    Ok(out)
}

/// Walks over a mask and tells of each letter whether it stands in quotes or brackets.
fn scan(mask: &str, from: usize, mut each: impl FnMut(usize, char, bool)) -> Result<(), MaskFault> {
    let mut open: Vec<(char, usize)> = Vec::new();
    for (at, letter) in mask[from..].char_indices() {
        let at = at + from;
        let quoted = open.last().is_some_and(|(sign, _)| matches!(sign, '\'' | '"'));
        match letter {
            '\'' | '"' if quoted => {
                each(at, letter, true);
                if open.last().is_some_and(|(sign, _)| *sign == letter) {
                    open.pop();
                }
                continue;
            }
            '\'' | '"' | '(' | '[' | '{' if !quoted => {
                each(at, letter, !open.is_empty() || matches!(letter, '\'' | '"'));
                open.push((letter, at));
                continue;
            }
            ')' | ']' | '}' if !quoted => {
                let closes = match letter {
                    ')' => '(',
                    ']' => '[',
                    _ => '{',
                };
                if open.pop().is_none_or(|(sign, _)| sign != closes) {
                    return Err(MaskFault::at(mask, at, format!("nothing is open that this {letter} could close")));
                }
            }
            _ => {}
        }
        each(at, letter, !open.is_empty());
    }
    match open.pop() {
        Some((sign, at)) => Err(MaskFault::at(mask, at, format!("this {sign} is not closed"))),
        None => Ok(()),
    }
}

impl Rule {
    pub(super) fn parse(mask: &str) -> Result<Rule, MaskFault> {
        let wrong = |at: usize, text: &str| Err(MaskFault::at(mask, at, text));
        const FORM: &str = "write ORIGIN:QUERY>NUMBER, as in prometheus:cpu_usage>80 for 5m, influxdb:'SELECT ...'>4 or statsd:api.latency.p99>250";
        let Some((scheme, _)) = mask.split_once(':') else { return wrong(mask.len(), FORM) };
        let (name, conn) = scheme.split_once('@').unwrap_or((scheme, "default"));
        let origin = match name {
            "prometheus" => Origin::Prometheus,
            "influxdb" => Origin::Influx,
            "statsd" => Origin::Statsd,
            _ => return wrong(0, FORM),
        };
        let after = scheme.len() + 1;
        let all = pieces(mask, after)?;
        let is_clause = |piece: &Piece<'_>| matches!(piece.text, "for" | "clear" | "every" | "nodata");
        let clauses = all.iter().position(is_clause).unwrap_or(all.len());
        let (Some(first), Some(last)) = (all.first().filter(|_| clauses > 0), all[..clauses].last()) else {
            return wrong(after, FORM);
        };
        let body = Piece { text: &mask[first.at..last.at + last.text.len()], at: first.at };
        let (query, cmp, threshold) = comparison(mask, body)?;
        let mut rule = Rule {
            text: mask.trim().to_owned(),
            origin,
            conn: conn.to_owned(),
            query,
            cmp,
            threshold,
            hold: Duration::ZERO,
            clear: None,
            clear_hold: Duration::ZERO,
            every: EVERY,
            nodata: NoData::default(),
        };
        rule.clauses(mask, &all[clauses..])?;
        Ok(rule)
    }

    fn clauses(&mut self, mask: &str, clauses: &[Piece<'_>]) -> Result<(), MaskFault> {
        let mut rest = clauses.iter();
        let mut cleared = false;
        while let Some(word) = rest.next() {
            let end = mask.len();
            let mut next =
                |what: &str| rest.next().ok_or_else(|| MaskFault::at(mask, end, format!("{} wants {what}", word.text)));
            let time = |piece: &Piece<'_>| {
                duration(piece.text).ok_or_else(|| MaskFault::at(mask, piece.at, "this is no time, as in 30s or 5m"))
            };
            match word.text {
                "for" if cleared => self.clear_hold = time(next("a time")?)?,
                "for" => self.hold = time(next("a time")?)?,
                "every" if self.origin == Origin::Statsd => {
                    let why = "StatsD is looked at once a window; say how long that is in the configuration, as in statsd: {window: 10s}";
                    return Err(MaskFault::at(mask, word.at, why));
                }
                "every" => {
                    let piece = next("a time")?;
                    self.every = time(piece)?;
                    if self.every < EVERY_MIN {
                        return Err(MaskFault::at(mask, piece.at, "at most every 100ms"));
                    }
                }
                "clear" => {
                    let piece = next("a comparison, as in clear <70")?;
                    let number_of = |text: &str, at: usize| {
                        number(text).ok_or_else(|| MaskFault::at(mask, at, "a number is missing here"))
                    };
                    let (cmp, length) = Cmp::at_start(piece.text).ok_or_else(|| {
                        MaskFault::at(mask, piece.at, "a comparison is missing here, as in clear <70")
                    })?;
                    let value = match &piece.text[length..] {
                        "" => {
                            let piece = next("a number")?;
                            number_of(piece.text, piece.at)?
                        }
                        text => number_of(text, piece.at + length)?,
                    };
                    self.clear = Some((cmp, value));
                    cleared = true;
                }
                "nodata" => {
                    let piece = next("keep, ok or fire")?;
                    self.nodata = match piece.text {
                        "keep" => NoData::Keep,
                        "ok" => NoData::Ok,
                        "fire" => NoData::Fire,
                        _ => return Err(MaskFault::at(mask, piece.at, "nodata is keep, ok or fire")),
                    };
                }
                _ => {
                    return Err(MaskFault::at(
                        mask,
                        word.at,
                        "after the threshold come for, clear, every and nodata only",
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The query, how it is compared, and with what. Exactly one comparison outside of quotes and brackets.
fn comparison(mask: &str, body: Piece<'_>) -> Result<(String, Cmp, f64), MaskFault> {
    let mut found: Vec<(usize, Cmp, usize)> = Vec::new();
    let end = body.at + body.text.len();
    scan(mask, body.at, |at, _, deep| {
        let inside = found.last().is_some_and(|(before, _, length)| at < before + length);
        if at < end
            && !deep
            && !inside
            && let Some((cmp, length)) = Cmp::at_start(&mask[at..end])
        {
            found.push((at, cmp, length));
        }
    })?;
    match found.as_slice() {
        [] => Err(MaskFault::at(mask, end, "a comparison is missing, as in >80")),
        [(at, cmp, length)] => {
            let query = mask[body.at..*at].trim();
            let text = mask[at + length..end].trim();
            let unquoted = [b'\'', b'"'].into_iter().find_map(|quote| {
                let inner = query.strip_prefix(quote as char)?.strip_suffix(quote as char)?;
                (!inner.contains(quote as char)).then_some(inner)
            });
            let query = unquoted.unwrap_or(query);
            if query.is_empty() {
                return Err(MaskFault::at(mask, body.at, "a query is missing in front of the comparison"));
            }
            let value = number(text)
                .ok_or_else(|| MaskFault::at(mask, at + length, "a number is missing here, as in >80 or >=1.5k"))?;
            Ok((query.to_owned(), *cmp, value))
        }
        [_, (at, ..), ..] => {
            Err(MaskFault::at(mask, *at, "a second comparison: quote the query, as in prometheus:'a > bool b'>0"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn masks_are_read_in_all_their_forms() {
        let rule = Rule::parse("prometheus:cpu_usage>80").unwrap();
        assert_eq!(
            (rule.query.as_str(), rule.cmp, rule.threshold, rule.hold),
            ("cpu_usage", Cmp::Greater, 80.0, Duration::ZERO)
        );
        let rule = Rule::parse("prometheus:'sum(rate(http_errors[5m]))'>10 for 2m clear <5 for 5m").unwrap();
        assert_eq!(rule.query, "sum(rate(http_errors[5m]))");
        assert_eq!((rule.hold.as_secs(), rule.clear, rule.clear_hold.as_secs()), (120, Some((Cmp::Less, 5.0)), 300));
        let rule = Rule::parse("prometheus@prod:foo{a!=\"b\"}>=1.5k every 10s nodata fire").unwrap();
        assert_eq!((rule.conn.as_str(), rule.query.as_str(), rule.threshold), ("prod", "foo{a!=\"b\"}", 1500.0));
        assert_eq!((rule.every.as_secs(), rule.nodata), (10, NoData::Fire));
        let rule = Rule::parse("statsd:api.latency.p99>250 for 5m").unwrap();
        assert_eq!((rule.origin, rule.query.as_str()), (Origin::Statsd, "api.latency.p99"));
        let text = "influxdb@prod:'SELECT mean(load) FROM sys WHERE time > now()-1m GROUP BY host'>4";
        let rule = Rule::parse(text).unwrap();
        assert_eq!((rule.origin, rule.query.len(), rule.threshold), (Origin::Influx, 62, 4.0));
        let rule = Rule::parse("prometheus:a > 5 clear < 3").unwrap();
        assert_eq!((rule.query.as_str(), rule.threshold, rule.clear), ("a", 5.0, Some((Cmp::Less, 3.0))));
    }

    #[test]
    fn what_is_not_clear_is_refused_with_its_place() {
        for (mask, column) in [
            ("", 1),
            ("cpu>80", 7),
            ("graphite:a>1", 1),
            ("prometheus:", 12),
            ("prometheus:a", 13),
            ("prometheus:>5", 12),
            ("prometheus:a>", 14),
            ("prometheus:a>x", 14),
            ("prometheus:a>1<5", 15),
            ("prometheus:a{b=\"c>1", 16),
            ("prometheus:a)>1", 13),
            ("prometheus:a>1 for", 19),
            ("prometheus:a>1 for soon", 20),
            ("prometheus:a>1 clear 5", 22),
            ("prometheus:a>1 every 1ms", 22),
            ("statsd:a>1 every 5s", 12),
            ("prometheus:a>1 nodata maybe", 23),
        ] {
            let fault = Rule::parse(mask).unwrap_err();
            assert_eq!(fault.column, column, "{mask}: {fault}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_or_refused(mask in ".{0,60}") {
            let _ = Rule::parse(&format!("prometheus:{mask}"));
            let _ = Rule::parse(&mask);
        }

        #[test]
        fn what_is_read_reads_the_same_again(mask in "prometheus:[a-z]{1,5}(>|<=|!=)[0-9]{1,3}( for [1-9]m)?( every [1-9]s)?") {
            let rule = Rule::parse(&mask).unwrap();
            prop_assert_eq!(Rule::parse(&rule.text).unwrap(), rule);
        }
    }
}
