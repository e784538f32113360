//! `scan`: a command that looks for what is unsafe and writes a report, which is counted by severity.
//!
//! `scan: {run: [trivy, fs, --format, json, --output, scan.json, .], report: scan.json, severity: high}`; without `report` what the
//! command writes to standard output is the report; `cwd` is a folder of the workspace. It fails with what is as severe as
//! `severity` (`critical`, `high`, `medium`, `low`; `high` where it is left out) or more. Reports are SARIF, or JSON as trivy, grype
//! and `npm audit` write it, or `{"critical": 0, "high": 2}`. The report decides, not the command's exit code; a report that is missing
//! or cannot be read is never a good one.
//!
//! Outputs: `critical`, `high`, `medium`, `low`, `unknown`, `total`.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use masterchief_contract::Future;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::apart::apart;
use super::class::{Class, Failure};
use super::collect::open;
use super::kept::short;
use super::process::{Job, JobEnd, Out};
use super::settings::Settings;
use super::shell::{finish, is_below, unseen, variables};
use super::step::{End, Executor, Hands, Step};

/// The job, and the file with what it writes to standard output.
const JOB: &str = "main";
const OUT: &str = "main.out";
/// The longest report.
const REPORT_MAX: u64 = 64 << 20;
/// So many findings are named, each with so many characters.
const NAMED: usize = 3;
const NAME_MAX: usize = 80;

/// The executor.
pub(super) fn make(_: &Settings) -> Arc<dyn Executor> {
    Arc::new(Scan)
}

struct Scan;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    run: Vec<String>,
    #[serde(default)]
    report: Option<String>,
    #[serde(default = "high")]
    severity: Severity,
    #[serde(default)]
    cwd: Option<String>,
}

fn high() -> Severity {
    Severity::High
}

/// How bad a finding is, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Severity {
    Critical,
    High,
    Medium,
    Low,
    Unknown,
}

const ALL: [(Severity, &str); 5] = [
    (Severity::Critical, "critical"),
    (Severity::High, "high"),
    (Severity::Medium, "medium"),
    (Severity::Low, "low"),
    (Severity::Unknown, "unknown"),
];

impl Severity {
    /// By the names that scanners have for it.
    fn named(name: &str) -> Severity {
        match name.to_ascii_lowercase().as_str() {
            "critical" => Severity::Critical,
            "high" | "error" => Severity::High,
            "medium" | "moderate" | "warning" => Severity::Medium,
            "low" | "negligible" | "note" | "info" | "none" => Severity::Low,
            _ => Severity::Unknown,
        }
    }

    /// By the score that CVSS has for it.
    fn scored(score: f64) -> Severity {
        match score {
            9.0.. => Severity::Critical,
            7.0.. => Severity::High,
            4.0.. => Severity::Medium,
            _ => Severity::Low,
        }
    }
}

/// What a report has.
#[derive(Debug, Default, PartialEq)]
struct Findings {
    counts: [u64; 5],
    /// The first of each severity.
    names: Vec<(usize, String)>,
}

impl Findings {
    fn add(&mut self, severity: Severity, name: String) {
        let at = severity as usize;
        self.counts[at] += 1;
        if !name.is_empty() && self.names.iter().filter(|(one, _)| *one == at).count() < NAMED {
            self.names.push((at, short(&name, NAME_MAX)));
        }
    }

    /// `0 critical, 2 high`, and what there is of the others.
    fn line(&self) -> String {
        let shown = |at: usize| at < 2 || self.counts[at] > 0;
        let parts = ALL.iter().enumerate().filter(|(at, _)| shown(*at));
        parts.map(|(at, (_, name))| format!("{} {name}", self.counts[at])).collect::<Vec<_>>().join(", ")
    }

    /// What it means where so much is too much.
    fn end(mut self, most: Severity) -> End {
        // What nobody rated may be anything.
        let too_much = |at: usize| at <= most as usize || at == Severity::Unknown as usize && most == Severity::Low;
        if (0..ALL.len()).any(|at| too_much(at) && self.counts[at] > 0) {
            self.names.sort_by_key(|(at, _)| *at);
            let names = self.names.iter().filter(|(at, _)| too_much(*at)).take(NAMED);
            let names: Vec<&str> = names.map(|(_, name)| name.as_str()).collect();
            let names = if names.is_empty() { String::new() } else { format!(": {}", names.join("; ")) };
            return End::failed(Class::TestFailed, format!("{}{names}", self.line()));
        }
        let mut outputs: Map<String, Value> =
            ALL.iter().zip(self.counts).map(|((_, name), count)| ((*name).to_owned(), count.into())).collect();
        outputs.insert("total".to_owned(), self.counts.iter().sum::<u64>().into());
        End::Done { outputs, summary: self.line() }
    }
}

fn read(settings: &Value) -> Result<Written, (String, String)> {
    let written: Written = serde_json::from_value(settings.clone()).map_err(|fault| {
        let wanted = "{run: [trivy, fs, --format, json, .], report: scan.json, severity: high}";
        (String::new(), format!("write {wanted} ({fault})"))
    })?;
    let fault = |key: &str, what: String| Err((key.to_owned(), what));
    if written.run.first().is_none_or(String::is_empty) {
        return fault("run", "no program is named; write it as a list, [trivy, fs, .]".to_owned());
    }
    if written.severity == Severity::Unknown {
        return fault("severity", "write critical, high, medium or low".to_owned());
    }
    for (key, path) in [("report", &written.report), ("cwd", &written.cwd)] {
        if let Some(path) = path.as_deref().filter(|path| !is_below(path)) {
            return fault(key, format!("{path:?} leaves the workspace; name one in it, without .."));
        }
    }
    Ok(written)
}

impl Executor for Scan {
    fn check(&self, settings: &Value) -> Vec<(String, String)> {
        let unseen = |written: Written| unseen(&written.run).map_err(|fault| ("run".to_owned(), fault));
        read(settings).and_then(unseen).err().into_iter().collect()
    }

    fn run(&self, step: Step, hands: Hands) -> Future<End> {
        Box::pin(async move {
            match read(&step.settings) {
                Ok(written) => scan(written, &step, &hands).await,
                Err((key, fault)) if key.is_empty() => End::failed(Class::Config, format!("scan: {fault}")),
                Err((key, fault)) => End::failed(Class::Config, format!("scan: {key}: {fault}")),
            }
        })
    }

    fn runs_elsewhere(&self) -> bool {
        true
    }

    fn repeatable(&self) -> bool {
        // It only looks.
        true
    }
}

async fn scan(written: Written, step: &Step, hands: &Hands) -> End {
    let cwd = written.cwd.as_ref().map_or_else(|| step.workspace.clone(), |cwd| step.workspace.join(cwd));
    let report = written.report.as_ref().map_or_else(|| step.folder.join(OUT), |report| cwd.join(report));
    if written.report.is_some() && !step.folder.join(format!("{JOB}.pid")).exists() {
        // One of an earlier scan says nothing about this one. It need not be there.
        let _ = std::fs::remove_file(&report);
    }
    let out = if written.report.is_some() { Out::Log } else { Out::Own };
    let job = Job { env: variables(step), cwd: Some(cwd), out, ..Job::new(JOB, written.run) };
    let end = job.run(step, hands, |_| ()).await;
    let (JobEnd::Exited(code), shown) = (&end, written.report.as_deref().unwrap_or("its output")) else {
        return finish(end, step, |_| End::done());
    };
    let looked = apart(move || look(&report)).await;
    match looked.unwrap_or_else(|| Err("it could not be read to its end".to_owned())) {
        Ok(findings) => {
            hands.log.line(&format!("{shown}: {}", findings.line()));
            match findings.end(written.severity) {
                End::Failed(failure) => End::Failed(failure.exit(*code)),
                end => end,
            }
        }
        // Why it failed says more than that there is no report.
        Err(_) if *code != 0 => finish(end, step, |_| End::done()),
        Err(fault) => {
            let line = format!("{shown} is no report that can be counted: {fault}; let it write SARIF or JSON");
            End::Failed(Failure::new(Class::Config, line))
        }
    }
}

fn look(report: &Path) -> Result<Findings, String> {
    let mut text = Vec::new();
    let read = open(report)?.take(REPORT_MAX + 1).read_to_end(&mut text);
    read.map_err(|fault| fault.to_string())?;
    if text.len() as u64 > REPORT_MAX {
        return Err(format!("it is longer than {} MiB", REPORT_MAX >> 20));
    }
    let report: Value = serde_json::from_slice(&text).map_err(|fault| format!("it is not JSON ({fault})"))?;
    findings(&report).ok_or_else(|| "it is of a kind that is not known".to_owned())
}

/// What a report has, by the kind it is of.
fn findings(report: &Value) -> Option<Findings> {
    let mut found = Findings::default();
    if let Some(runs) = report["runs"].as_array() {
        runs.iter().for_each(|run| sarif(run, &mut found));
    } else if let Some(matches) = report["matches"].as_array() {
        for one in matches {
            let name = format!("{} in {}", text(&one["vulnerability"]["id"]), text(&one["artifact"]["name"]));
            found.add(Severity::named(text(&one["vulnerability"]["severity"])), name);
        }
    } else if report["Results"].is_array() || report["SchemaVersion"].is_number() {
        // Where trivy finds nothing to look at it writes no results.
        list(&report["Results"]).iter().for_each(|result| trivy(result, &mut found));
    } else {
        let counts = report.pointer("/metadata/vulnerabilities").unwrap_or(report).as_object()?;
        let known = |name: &str| name == "unknown" || Severity::named(name) != Severity::Unknown;
        let counted: Vec<_> = counts.iter().filter(|(name, _)| known(name)).collect();
        // A count that is none is a report that cannot be read.
        if counted.is_empty() || counted.iter().any(|(_, count)| !count.is_u64()) {
            return None;
        }
        for (name, count) in counted {
            let sum = &mut found.counts[Severity::named(name) as usize];
            *sum = sum.saturating_add(count.as_u64().unwrap_or(0));
        }
    }
    Some(found)
}

/// A run of SARIF 2.1.0: results with a level, and rules with a score.
fn sarif(run: &Value, found: &mut Findings) {
    let rules = list(&run["tool"]["driver"]["rules"]);
    for result in list(&run["results"]) {
        let accepted = |one: &Value| matches!(one["status"].as_str(), None | Some("accepted"));
        if list(&result["suppressions"]).iter().any(accepted) {
            continue;
        }
        let id = result["ruleId"].as_str().or(result["rule"]["id"].as_str()).unwrap_or_default();
        let by_place = result["ruleIndex"].as_u64().and_then(|at| rules.get(usize::try_from(at).ok()?));
        let rule = by_place.or_else(|| rules.iter().find(|rule| rule["id"] == id));
        let score = rule.and_then(|rule| rule["properties"].get("security-severity"));
        let score = score.and_then(|score| score.as_f64().or_else(|| score.as_str()?.parse().ok()));
        let usual = rule.and_then(|rule| rule.pointer("/defaultConfiguration/level")).and_then(Value::as_str);
        let level = result["level"].as_str().or(usual).unwrap_or("warning");
        let place = result.pointer("/locations/0/physicalLocation/artifactLocation/uri").and_then(Value::as_str);
        let name = place.map_or_else(|| id.to_owned(), |place| format!("{id} in {place}"));
        found.add(score.map_or_else(|| Severity::named(level), Severity::scored), name);
    }
}

fn trivy(result: &Value, found: &mut Findings) {
    let at = text(&result["Target"]);
    for one in list(&result["Vulnerabilities"]) {
        let name = format!("{} in {}", text(&one["VulnerabilityID"]), text(&one["PkgName"]));
        found.add(Severity::named(text(&one["Severity"])), name);
    }
    for one in list(&result["Misconfigurations"]).iter().filter(|one| one["Status"] != "PASS") {
        found.add(Severity::named(text(&one["Severity"])), format!("{} in {at}", text(&one["ID"])));
    }
    for one in list(&result["Secrets"]) {
        found.add(Severity::named(text(&one["Severity"])), format!("{} in {at}", text(&one["RuleID"])));
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn counted(report: Value) -> Option<String> {
        findings(&report).map(|found| found.line())
    }

    #[test]
    fn a_count_that_is_no_number_is_a_report_that_cannot_be_read() {
        for report in [json!({"critical": 0, "high": "2"}), json!({"critical": 0, "high": 2.5}), json!({"high": null})]
        {
            assert!(findings(&report).is_none(), "{report}");
        }
        assert!(findings(&json!({"critical": 0, "high": 2})).is_some());
    }

    #[test]
    fn the_reports_of_common_scanners_are_counted() {
        let trivy = json!({"SchemaVersion": 2, "Results": [
            {"Target": "Cargo.lock", "Vulnerabilities": [{"VulnerabilityID": "CVE-1", "PkgName": "ssl", "Severity": "CRITICAL"},
                {"Severity": "MEDIUM"}, {"Severity": "odd"}]},
            {"Target": "Dockerfile", "Misconfigurations": [{"ID": "DS1", "Status": "FAIL", "Severity": "HIGH"},
                {"ID": "DS2", "Status": "PASS", "Severity": "HIGH"}], "Secrets": [{"RuleID": "aws", "Severity": "LOW"}]}]});
        assert_eq!(counted(trivy).unwrap(), "1 critical, 1 high, 1 medium, 1 low, 1 unknown");
        assert_eq!(counted(json!({"SchemaVersion": 2})).unwrap(), "0 critical, 0 high");
        let grype =
            json!({"matches": [{"vulnerability": {"id": "CVE-2", "severity": "High"}, "artifact": {"name": "zlib"}}]});
        assert_eq!(counted(grype).unwrap(), "0 critical, 1 high");
        let npm = json!({"metadata": {"vulnerabilities": {"info": 1, "low": 0, "moderate": 2, "high": 0, "critical": 0, "total": 3}}});
        assert_eq!(counted(npm).unwrap(), "0 critical, 0 high, 2 medium, 1 low");
        let sarif = json!({"runs": [{"tool": {"driver": {"rules": [
                {"id": "a", "properties": {"security-severity": "9.8"}}, {"id": "b", "defaultConfiguration": {"level": "note"}}]}},
            "results": [{"ruleId": "a", "level": "note"}, {"ruleId": "b"}, {"ruleId": "c", "level": "error"}, {"ruleId": "d"},
                {"ruleId": "a", "suppressions": [{"kind": "inSource"}]}]}]});
        assert_eq!(counted(sarif).unwrap(), "1 critical, 1 high, 1 medium, 1 low");
        assert_eq!(counted(json!({"high": 2, "unknown": 1, "seconds": 7})).unwrap(), "0 critical, 2 high, 1 unknown");
        for strange in [json!({}), json!([]), json!({"total": 3}), json!("x"), json!({"high": "2"})] {
            assert_eq!(counted(strange.clone()), None, "{strange}");
        }
    }

    #[test]
    fn what_is_as_severe_as_it_says_or_more_fails_and_is_named() {
        let found = || {
            let mut found = Findings::default();
            found.add(Severity::Medium, "CVE-3 in c".to_owned());
            found.add(Severity::High, "CVE-2 in b".to_owned());
            found
        };
        let End::Done { outputs, summary } = found().end(Severity::Critical) else { panic!() };
        assert_eq!(
            (summary.as_str(), &outputs["high"], &outputs["total"]),
            ("0 critical, 1 high, 1 medium", &json!(1), &json!(2))
        );
        let End::Failed(failure) = found().end(Severity::High) else { panic!() };
        assert_eq!(failure.line, "0 critical, 1 high, 1 medium: CVE-2 in b");
        let End::Failed(failure) = found().end(Severity::Medium) else { panic!() };
        assert_eq!(failure.line, "0 critical, 1 high, 1 medium: CVE-2 in b; CVE-3 in c");
    }

    #[test]
    fn what_can_never_scan_is_refused_with_its_key() {
        let key = |settings: Value| Scan.check(&settings).into_iter().next().map(|(key, _)| key);
        assert_eq!(key(json!({"run": ["trivy"], "severity": "low", "report": "out/scan.json"})), None);
        assert_eq!(key(json!({"run": []})).as_deref(), Some("run"));
        assert_eq!(key(json!({"run": ["trivy"], "severity": "unknown"})).as_deref(), Some("severity"));
        assert_eq!(key(json!({"run": ["trivy"], "report": "../x"})).as_deref(), Some("report"));
        assert_eq!(key(json!({"run": ["trivy"], "severity": "worst"})).as_deref(), Some(""));
    }
}
