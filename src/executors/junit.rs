//! Reads reports of tests in JUnit's XML.

use std::path::PathBuf;

use quick_xml::events::BytesStart;
use serde::{Deserialize, Serialize};

use super::report::{Mark, attribute, name, number, reports, walk};

/// So many failed tests are named.
const NAMES_MAX: usize = 20;
/// The longest name of a failed test with its message, in characters.
const NAME_MAX: usize = 200;

/// What reports of tests say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tests {
    /// Test cases that are in the reports.
    pub total: u64,
    /// Those that passed, also on a later attempt.
    pub passed: u64,
    /// Those whose assertion did not hold.
    pub failed: u64,
    /// Those that broke otherwise.
    pub errors: u64,
    /// Those that were not run.
    pub skipped: u64,
    /// Those among the passed that failed first.
    pub flaky: u64,
    /// How long all of them took.
    pub seconds: f64,
    /// The first twenty that failed or broke: `suite.case: message`.
    pub failures: Vec<String>,
}

/// Reads reports of tests in JUnit's XML, as pytest, Surefire, jest-junit and go-junit-report write it: the test cases are counted,
/// totals in attributes are not trusted. Reports that cannot be read are a fault, and so is none at all: missing tests are
/// not good ones.
pub fn junit(files: &[PathBuf]) -> Result<Tests, String> {
    let mut tests = Tests::default();
    for (path, text) in reports(files, "report of tests")? {
        let mut reading = Reading { tests: &mut tests, suites: Vec::new(), case: None };
        let root = walk(&path, &text, |mark| {
            reading.see(mark);
            Ok(())
        })?;
        if !matches!(root.as_str(), "testsuites" | "testsuite") {
            return Err(format!("{} is not a JUnit report: it begins with <{root}>", name(&path)));
        }
    }
    tests.passed = tests.total.saturating_sub(tests.failed + tests.errors + tests.skipped);
    Ok(tests)
}

/// Where we are in a report of tests.
struct Reading<'a> {
    tests: &'a mut Tests,
    suites: Vec<String>,
    case: Option<Case>,
}

/// A test case that is being read.
#[derive(Default)]
struct Case {
    name: String,
    result: Outcome,
    message: String,
    /// The element whose text may be the message.
    inside: Option<String>,
    flaky: bool,
}

/// How a test case ended; the worst that is said of it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    #[default]
    Passed,
    Skipped,
    Failed,
    Error,
}

impl Reading<'_> {
    fn see(&mut self, mark: Mark<'_>) {
        match mark {
            Mark::Open(_, "testsuite", tag) => self.suites.push(attribute(tag, "name").unwrap_or_default()),
            Mark::Open(_, "testcase", tag) => {
                let suite = attribute(tag, "classname").filter(|class| !class.is_empty());
                let suite = suite.or_else(|| self.suites.last().cloned()).unwrap_or_default();
                let name = attribute(tag, "name").unwrap_or_else(|| "unnamed".to_owned());
                let name = if suite.is_empty() { name } else { format!("{suite}.{name}") };
                self.tests.seconds += number(tag, "time").unwrap_or(0.0);
                self.case = Some(Case { name, ..Case::default() });
            }
            Mark::Open(_, element, tag) => self.result(element, tag),
            Mark::Text(text) => {
                if let Some(case) = self.case.as_mut().filter(|case| case.inside.is_some()) {
                    let room = (4 * NAME_MAX).saturating_sub(case.message.len());
                    case.message.extend(text.chars().take(room));
                }
            }
            Mark::Close("testsuite") => drop(self.suites.pop()),
            Mark::Close("testcase") => {
                if let Some(case) = self.case.take() {
                    self.count(case);
                }
            }
            Mark::Close(element) => {
                let Some(case) = &mut self.case else { return };
                if case.inside.as_deref() == Some(element) {
                    case.inside = None;
                    // An error of a suite is nobody's test case.
                    if case.name.is_empty()
                        && let Some(case) = self.case.take()
                    {
                        let suite = self.suites.last().cloned().unwrap_or_default();
                        self.count(Case { name: suite, ..case });
                    }
                }
            }
        }
    }

    /// What is said of a test case, or of its suite: of that only what is bad.
    fn result(&mut self, element: &str, tag: &BytesStart<'_>) {
        let result = match element {
            "failure" => Outcome::Failed,
            "error" => Outcome::Error,
            "skipped" if self.case.is_some() => Outcome::Skipped,
            // Surefire's: it failed first and passed then. A `rerunFailure` stands beside a `failure` and adds nothing.
            "flakyFailure" | "flakyError" => {
                self.case.iter_mut().for_each(|case| case.flaky = true);
                return;
            }
            _ => return,
        };
        if self.suites.is_empty() && self.case.is_none() {
            return;
        }
        let case = self.case.get_or_insert_default();
        if result > case.result {
            case.result = case.result.max(result);
            case.message = attribute(tag, "message").unwrap_or_default();
            // Otherwise the message is the text inside.
            let told = !case.message.trim().is_empty();
            case.inside = (!told || case.name.is_empty()).then(|| element.to_owned());
        }
    }

    fn count(&mut self, case: Case) {
        self.tests.total += 1;
        match case.result {
            Outcome::Passed => self.tests.flaky += u64::from(case.flaky),
            Outcome::Skipped => self.tests.skipped += 1,
            Outcome::Failed => self.tests.failed += 1,
            Outcome::Error => self.tests.errors += 1,
        }
        if case.result >= Outcome::Failed && self.tests.failures.len() < NAMES_MAX {
            let message = case.message.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
            let whole = if message.is_empty() { case.name } else { format!("{}: {message}", case.name) };
            let readable = whole.chars().filter(|letter| !letter.is_control()).take(NAME_MAX);
            self.tests.failures.push(readable.collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::collect::tests::folder;
    use super::*;

    const PYTEST: &str = r#"<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest" errors="1" failures="1" skipped="1" tests="5" time="0.12" timestamp="2026-11-21T10:00:00" hostname="ci">
<testcase classname="tests.test_cart" name="test_total" time="0.010"><failure message="AssertionError: assert 3 == 4&#10;  + where 3 = total()">def test_total():
&gt;       assert total() == 4</failure></testcase>
<testcase classname="tests.test_cart" name="test_db" time="0.020"><error message="failed on setup with &quot;OSError&quot;">trace</error></testcase>
<testcase classname="tests.test_cart" name="test_later" time="0.000"><skipped type="pytest.skip" message="later">tests/test_cart.py:9: later</skipped></testcase>
<testcase classname="tests.test_cart" name="test_fine" time="0.030" /><testcase classname="tests.test_cart" name="test_out"><system-out>failure</system-out></testcase></testsuite></testsuites>"#;
    const SUREFIRE: &str = r#"<testsuite xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" name="shop.CartTest" time="1,001.5" tests="3" errors="0" failures="0">
  <properties><property name="a" value="b"/></properties>
  <testcase name="adds" classname="shop.CartTest" time="1,000.5"><flakyFailure message="first" type="x"><stackTrace>no</stackTrace></flakyFailure></testcase>
  <testcase name="pays" classname="shop.CartTest" time="1"><failure message="expected 1 but was 2" type="x"><![CDATA[long]]></failure><rerunFailure message="again" type="x"/></testcase>
  <testcase name="ships" classname="shop.CartTest"/>
</testsuite>"#;
    const JEST: &str = r#"<?xml version="1.0"?>
<testsuites name="jest tests" tests="900" failures="0" time="1.2"><testsuite name="cart" tests="900">
<testcase classname="cart adds up" name="cart adds up" time="0.1"><failure>Error: expect(received).toBe(expected) &amp; more
    at Object.toBe (src/cart.test.js:3:1)</failure></testcase></testsuite></testsuites>"#;
    const GO: &str = r#"<testsuites><testsuite name="shop/cart" tests="1" failures="1"><testsuite name="inner">
<testcase name="TestCart" time="0.00"><failure message="Failed" type="">cart_test.go:9: got 3</failure></testcase></testsuite>
<testcase classname="" name="TestPay" time="NaN"/><error message="setup broke"/></testsuite></testsuites>"#;

    fn tests_in(text: &str) -> Result<Tests, String> {
        let (_folder, paths) = folder(&[("out/report.xml", text)]);
        junit(&paths)
    }

    fn counts(tests: &Tests) -> [u64; 6] {
        [tests.total, tests.passed, tests.failed, tests.errors, tests.skipped, tests.flaky]
    }

    #[test]
    fn what_pytest_writes_is_counted_and_named_by_the_first_line() {
        let tests = tests_in(PYTEST).unwrap();
        assert_eq!(counts(&tests), [5, 2, 1, 1, 1, 0]);
        assert_eq!(
            tests.failures,
            [
                "tests.test_cart.test_total: AssertionError: assert 3 == 4",
                "tests.test_cart.test_db: failed on setup with \"OSError\""
            ]
        );
        assert!((tests.seconds - 0.06).abs() < 1e-9);
    }

    #[test]
    fn a_test_that_surefire_ran_again_passed_if_it_passed_then() {
        let tests = tests_in(SUREFIRE).unwrap();
        assert_eq!(counts(&tests), [3, 2, 1, 0, 0, 1]);
        assert_eq!(tests.failures, ["shop.CartTest.pays: expected 1 but was 2"]);
        assert!((tests.seconds - 1001.5).abs() < 1e-9);
    }

    #[test]
    fn totals_in_attributes_are_not_trusted_and_missing_attributes_do_not_matter() {
        let tests = tests_in(JEST).unwrap();
        assert_eq!(counts(&tests), [1, 0, 1, 0, 0, 0]);
        assert_eq!(tests.failures, ["cart adds up.cart adds up: Error: expect(received).toBe(expected) & more"]);
        let tests = tests_in("<testsuite><testcase/></testsuite>").unwrap();
        assert_eq!(counts(&tests), [1, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn suites_within_suites_and_errors_of_a_whole_suite_count() {
        let tests = tests_in(GO).unwrap();
        assert_eq!(counts(&tests), [3, 1, 1, 1, 0, 0]);
        assert_eq!(tests.failures, ["inner.TestCart: Failed", "shop/cart: setup broke"]);
    }

    #[test]
    fn a_test_case_counts_once_by_the_worst_that_is_said_of_it() {
        let text = "<testsuite><testcase name='a'><error message='first'/><failure message='then'/><skipped/></testcase></testsuite>";
        let tests = tests_in(text).unwrap();
        assert_eq!((counts(&tests), tests.failures[0].as_str()), ([1, 0, 0, 1, 0, 0], "a: first"));
    }

    #[test]
    fn reports_are_added_up_and_twenty_failures_are_named() {
        let case = "<testcase name='t'><failure/></testcase>".repeat(30);
        let text = format!("<testsuite name='s'>{case}</testsuite>");
        let (_folder, paths) = folder(&[("a.xml", PYTEST), ("b.xml", &text)]);
        let tests = junit(&paths).unwrap();
        assert_eq!((tests.total, tests.failed, tests.failures.len()), (35, 31, 20));
        assert_eq!(tests.failures[19], "s.t");
    }

    #[test]
    fn a_report_that_cannot_be_read_says_which_and_where() {
        let fault = |text: &str| tests_in(text).unwrap_err();
        assert!(fault("<testsuite>\n<testcase>\n</testsuite>").starts_with("out/report.xml cannot be read, line 3: "));
        assert!(fault("<testsuite>\n<testcase name='a'>").contains("line 2: it ends in the middle"));
        assert!(fault("").contains("there is no element"));
        assert!(fault("<html></html>").contains("begins with <html>"));
        assert!(fault(&"<a>".repeat(300)).contains("nested too deeply"));
        assert!(junit(&[]).unwrap_err().contains("there is no report of tests"));
        assert!(junit(&[PathBuf::from("/nowhere/x.xml")]).unwrap_err().starts_with("nowhere/x.xml cannot be read"));
    }

    #[test]
    fn entities_that_would_grow_are_refused_and_none_from_outside_is_read() {
        let bomb =
            "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><testsuite><testcase name='&b;'/></testsuite>";
        assert!(tests_in(bomb).unwrap_err().contains("defines entities"));
        let outside = "<!DOCTYPE x SYSTEM 'file:///etc/passwd'><testsuite><testcase name='a'><failure>&x;</failure></testcase></testsuite>";
        assert!(tests_in(outside).unwrap_err().contains("an entity of its own"));
    }

    proptest! {
        #[test]
        fn whatever_a_stage_leaves_is_read_or_refused(text in "(<|>|/|testsuite|testcase|failure|error| name='|'|&|amp;|;|\n|[a-z0-9]){0,60}") {
            let _ = tests_in(&text);
        }
    }
}
