//! Reads which share of the lines was covered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::report::{Mark, attribute, name, number, reports, walk};

/// Reads which share of the lines was covered, 0 to 1: from Cobertura's XML (also coverage.py's), JaCoCo's XML, lcov, the JSON of
/// coverage.py and Istanbul's summary, or a bare number (`83%`, `83` and `0.83` are the same; up to 1 it is a share). Of several files
/// the lines are added up.
pub fn coverage(files: &[PathBuf]) -> Result<f64, String> {
    let reports = reports(files, "report of coverage")?;
    let several = reports.len() > 1;
    let (mut covered, mut lines) = (0.0, 0.0);
    for (path, text) in reports {
        let counted = lines_of(&path, &text)?;
        match counted {
            Counted::Lines(_, all) if all <= 0.0 => return Err(format!("{} tells of no line at all", name(&path))),
            Counted::Lines(hit, all) => (covered, lines) = (covered + hit, lines + all),
            Counted::Share(share) if !several => (covered, lines) = (share, 1.0),
            Counted::Share(_) => {
                return Err(format!(
                    "{} holds only a share, which cannot be added to other files; name one file",
                    name(&path)
                ));
            }
        }
    }
    let share = covered / lines;
    if share.is_finite() && (0.0..=1.0).contains(&share) {
        return Ok(share);
    }
    Err(format!("the coverage would be {share}, which is not between 0 and 1"))
}

/// What a report of coverage says.
enum Counted {
    /// Lines that were run, and all lines.
    Lines(f64, f64),
    /// Only a share.
    Share(f64),
}

fn lines_of(path: &Path, text: &str) -> Result<Counted, String> {
    let begin = text.trim_start();
    if begin.starts_with('<') {
        return xml_lines(path, text);
    }
    if begin.starts_with("TN:") || begin.starts_with("SF:") {
        return lcov(path, text);
    }
    let alone = begin.trim_end();
    let bare = alone.strip_suffix('%').unwrap_or(alone).trim_end();
    if let Some(number) = bare.parse::<f64>().ok().filter(|number| (0.0..=100.0).contains(number)) {
        let share = number <= 1.0 && !alone.ends_with('%');
        return Ok(Counted::Share(if share { number } else { number / 100.0 }));
    }
    let unknown =
        || format!("{} is no report of coverage that is known: Cobertura, JaCoCo, lcov, JSON or a number", name(path));
    json_lines(&serde_json::from_str(text).map_err(|_| unknown())?).ok_or_else(unknown)
}

/// coverage.py (`coverage json`), then Istanbul (`coverage-summary.json`).
fn json_lines(report: &Value) -> Option<Counted> {
    let number = |path: &str| report.pointer(path).and_then(Value::as_f64);
    let pair = |hit, all| Some(Counted::Lines(number(hit)?, number(all)?));
    let percent = |path| number(path).map(|percent| Counted::Share(percent / 100.0));
    pair("/totals/covered_lines", "/totals/num_statements")
        .or_else(|| pair("/total/lines/covered", "/total/lines/total"))
        .or_else(|| percent("/totals/percent_covered"))
        .or_else(|| percent("/total/lines/pct"))
}

/// lcov's tracefile (geninfo(1)): `LH` and `LF` of each file, or its `DA` lines where they are missing.
fn lcov(path: &Path, text: &str) -> Result<Counted, String> {
    let (mut hit, mut all) = (0.0, 0.0);
    let mut told: [Option<f64>; 2] = [None; 2];
    let mut seen: BTreeMap<&str, bool> = BTreeMap::new();
    let mut open = false;
    for (at, line) in text.lines().enumerate() {
        let broken = || format!("{} cannot be read, line {}: {:.60?}", name(path), at + 1, line);
        let count = |text: &str| text.trim().parse::<u32>().map(f64::from).map_err(|_| broken());
        match line.split_once(':') {
            Some(("SF", _)) => open = true,
            Some(("LH", number)) => told[0] = Some(count(number)?),
            Some(("LF", number)) => told[1] = Some(count(number)?),
            Some(("DA", rest)) => {
                let (number, times) = rest.split_once(',').ok_or_else(broken)?;
                let ran =
                    times.split(',').next().is_some_and(|times| times.trim().parse::<f64>().is_ok_and(|n| n > 0.0));
                *seen.entry(number).or_default() |= ran;
            }
            None if line.trim() == "end_of_record" => {
                let counted = seen.values().filter(|ran| **ran).count();
                hit += told[0].unwrap_or(counted as f64);
                all += told[1].unwrap_or(seen.len() as f64);
                (told, open) = ([None; 2], false);
                seen.clear();
            }
            _ => {}
        }
    }
    if open {
        return Err(format!("{} ends in the middle of a record", name(path)));
    }
    Ok(Counted::Lines(hit, all))
}

/// Cobertura's XML (coverage-04.dtd) and JaCoCo's (report.dtd).
fn xml_lines(path: &Path, text: &str) -> Result<Counted, String> {
    let mut whole: Option<(f64, f64)> = None;
    let mut rate = None;
    let (mut hit, mut all, mut methods) = (0.0, 0.0, 0_usize);
    let root = walk(path, text, |mark| {
        match mark {
            Mark::Open(0, "coverage", tag) => {
                rate = number(tag, "line-rate");
                whole = number(tag, "lines-covered").zip(number(tag, "lines-valid")).filter(|(_, all)| *all > 0.0);
            }
            // The same lines stand in a class and in its methods.
            Mark::Open(_, "methods", _) => methods += 1,
            Mark::Close("methods") => methods = methods.saturating_sub(1),
            Mark::Open(_, "line", tag) if methods == 0 => {
                let Some(hits) = number(tag, "hits") else { return Ok(()) };
                (hit, all) = (hit + f64::from(u8::from(hits > 0.0)), all + 1.0);
            }
            Mark::Open(1, "counter", tag) if attribute(tag, "type").as_deref() == Some("LINE") => {
                let told = number(tag, "covered").zip(number(tag, "missed"));
                let (covered, missed) = told.ok_or("a counter without numbers")?;
                whole = Some((covered, covered + missed));
            }
            _ => {}
        }
        Ok(())
    })?;
    match (root.as_str(), whole, rate) {
        ("coverage" | "report", Some((covered, lines)), _) => Ok(Counted::Lines(covered, lines)),
        ("coverage", None, _) if all > 0.0 => Ok(Counted::Lines(hit, all)),
        ("coverage", None, Some(rate)) => Ok(Counted::Share(rate)),
        ("coverage" | "report", ..) => Err(format!("{} tells of no line at all", name(path))),
        _ => Err(format!("{} is neither Cobertura's nor JaCoCo's: it begins with <{root}>", name(path))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::collect::tests::folder;
    use super::*;

    fn coverage_in(files: &[(&str, &str)]) -> Result<f64, String> {
        let (_folder, paths) = folder(files);
        coverage(&paths)
    }

    #[test]
    fn every_kind_of_coverage_is_read() {
        let one = |text: &str| coverage_in(&[("out/cov", text)]).map(|share| (share * 1000.0).round() / 1000.0);
        assert_eq!(
            one(
                "<?xml version='1.0'?><!DOCTYPE coverage SYSTEM 'http://cobertura.sourceforge.net/xml/coverage-04.dtd'><coverage line-rate='0.75' lines-covered='3' lines-valid='4'/>"
            ),
            Ok(0.75)
        );
        assert_eq!(one("<coverage line-rate='0.831' version='1'><packages/></coverage>"), Ok(0.831));
        let lines = "<line number='1' hits='1'/><line number='2' hits='0'/>";
        assert_eq!(
            one(&format!(
                "<coverage><class><methods><method><lines>{lines}{lines}</lines></method></methods><lines>{lines}<line hits='3'/></lines></class></coverage>"
            )),
            Ok(0.667)
        );
        assert_eq!(
            one(
                "<!DOCTYPE report PUBLIC '-//JACOCO//DTD Report 1.1//EN' 'report.dtd'><report name='x'><package><counter type='LINE' missed='9' covered='1'/></package><counter type='BRANCH' missed='5' covered='5'/><counter type='LINE' missed='1' covered='3'/></report>"
            ),
            Ok(0.75)
        );
        assert_eq!(
            one("TN:\nSF:a.c\nDA:1,1\nLF:10\nLH:5\nend_of_record\nSF:b.c\nDA:1,2\nDA:2,0\nend_of_record\n"),
            Ok(0.5)
        );
        assert_eq!(
            one("{\"totals\": {\"covered_lines\": 9, \"num_statements\": 10, \"percent_covered\": 90.0}}"),
            Ok(0.9)
        );
        assert_eq!(one("{\"totals\": {\"percent_covered\": 90.0}}"), Ok(0.9));
        assert_eq!(one("{\"total\": {\"lines\": {\"total\": 8, \"covered\": 2, \"pct\": 25}}}"), Ok(0.25));
        assert_eq!(
            [one("83%"), one(" 83.0\n"), one("0.83"), one("1%"), one("1")],
            [Ok(0.83), Ok(0.83), Ok(0.83), Ok(0.01), Ok(1.0)]
        );
    }

    #[test]
    fn lines_of_several_files_are_added_and_shares_are_not() {
        let lcov = "SF:a\nLF:10\nLH:10\nend_of_record\n";
        let json = "{\"totals\": {\"covered_lines\": 0, \"num_statements\": 30}}";
        assert_eq!(coverage_in(&[("a", lcov), ("b", json)]), Ok(0.25));
        assert!(coverage_in(&[("a", lcov), ("b", "83%")]).unwrap_err().contains("only a share"));
    }

    #[test]
    fn coverage_that_cannot_be_is_a_fault() {
        let fault = |text: &str| coverage_in(&[("out/cov", text)]).unwrap_err();
        assert!(fault("<coverage line-rate='1.5'/>").contains("not between 0 and 1"));
        assert!(fault("<coverage line-rate='NaN'/>").contains("no line at all"));
        assert!(fault("<coverage lines-covered='9' lines-valid='3'/>").contains("not between"));
        assert!(fault("<html/>").contains("neither Cobertura's nor JaCoCo's"));
        assert!(fault("SF:a\nDA:1,1\n").contains("middle of a record"));
        assert!(fault("SF:a\nLF:x\nend_of_record").contains("line 2"));
        assert!(fault("TN:\n").contains("no line at all"));
        assert!(fault("{\"totals\": {\"covered_lines\": 0, \"num_statements\": 0}}").contains("no line at all"));
        assert!(fault("hello").contains("no report of coverage that is known"));
        assert!(fault("105").contains("no report"));
    }

    proptest! {
        #[test]
        fn whatever_a_stage_leaves_is_read_or_refused(text in "(<|>|/|coverage|report|counter|line| hits='|'|&|amp;|;|SF:|DA:|,|\n|[{}\":0-9]){0,60}") {
            let _ = coverage_in(&[("a", &text)]);
        }
    }
}
