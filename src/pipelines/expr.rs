//! Conditions (`when`, `gate`, policies) in CEL, the Common Expression Language (github.com/google/cel-spec).

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use cel::{Context, Program};
use globset::Glob;
use serde_json::Value;

/// A condition, read and ready.
#[derive(Clone)]
pub struct Expr {
    text: Arc<str>,
    program: Arc<Program>,
    names: Arc<BTreeSet<String>>,
    params: Arc<[String]>,
}

/// What a condition can ask about, by name.
pub(super) type Facts = serde_json::Map<String, Value>;

/// What is wrong with a condition, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprFault {
    /// Characters from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

/// Remembers conditions that were read: a pipeline of ten thousand stages has few of them.
#[derive(Default)]
pub(super) struct Exprs {
    known: HashMap<String, Expr>,
}

impl Exprs {
    /// Reads a condition.
    pub(super) fn parse(&mut self, text: &str) -> Result<Expr, ExprFault> {
        if let Some(known) = self.known.get(text) {
            return Ok(known.clone());
        }
        let expr = Expr::parse(text)?;
        self.known.insert(text.to_owned(), expr.clone());
        Ok(expr)
    }
}

impl Expr {
    /// Reads a condition.
    pub fn parse(text: &str) -> Result<Expr, ExprFault> {
        let program = Program::compile(text).map_err(|faults| {
            let first = faults.errors.into_iter().next();
            let (column, message) = first.map_or((1, String::new()), |fault| (fault.pos.1.max(1) as usize, fault.msg));
            let message =
                message.trim_start_matches("Syntax error: ").split(" expecting {").next().unwrap_or("").to_owned();
            ExprFault { column, message: format!("this is no condition: {message}") }
        })?;
        let references = program.references();
        let names = references.variables().iter().map(|name| (*name).to_owned()).collect();
        let params = params(text).into();
        Ok(Expr { text: Arc::from(text), names: Arc::new(names), program: Arc::new(program), params })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The names it asks about, such as `params` or `checkout`.
    pub fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// The parameters it asks about: `skip_tests` for `!params.skip_tests`.
    pub fn params(&self) -> &[String] {
        &self.params
    }

    /// Whether it holds. What it asks about and is not known is a fault: a condition in doubt is never taken for true.
    pub fn holds(&self, facts: &Facts) -> Result<bool, String> {
        let mut context = Context::default();
        for name in self.names.iter() {
            // `null` where there is nothing: `plan.destroy > 0` is then a fault, not a silent `false`.
            let value = facts.get(name).map_or(cel::Value::Null, to_cel);
            context.add_variable_from_value(name.clone(), value);
        }
        // What is not known to be as it was counts as changed.
        let files: Option<Vec<String>> =
            facts.get("files").and_then(Value::as_array).map(|files| files.iter().filter_map(text_of).collect());
        // It fails for operators and CEL's own functions only, and this is neither.
        let _ = context.add_function("changed", move |glob: Arc<String>| -> bool {
            let matcher = Glob::new(&glob).map(|glob| glob.compile_matcher());
            matcher
                .is_ok_and(|matcher| files.as_ref().is_none_or(|files| files.iter().any(|file| matcher.is_match(file))))
        });
        match self.program.execute(&context) {
            Ok(cel::Value::Bool(holds)) => Ok(holds),
            Ok(_) => Err(format!("`{}` is neither true nor false; compare it with something", self.text)),
            Err(fault) => Err(format!("`{}`: {fault}", self.text)),
        }
    }
}

fn params(text: &str) -> Vec<String> {
    // What stands in quotes is text.
    let plain: String = text.split(['\'', '"']).step_by(2).collect::<Vec<_>>().join(" ");
    let name = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    plain.split("params.").skip(1).map(name).collect()
}

fn text_of(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// A value of JSON as CEL has it: whole numbers are integers, whatever their sign.
fn to_cel(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(value) => cel::Value::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(int) => cel::Value::Int(int),
            None => cel::Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(list) => list.iter().map(to_cel).collect::<Vec<_>>().into(),
        Value::Object(map) => {
            map.iter().map(|(key, value)| (key.clone(), to_cel(value))).collect::<HashMap<_, _>>().into()
        }
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.text)
    }
}

impl PartialEq for Expr {
    fn eq(&self, other: &Expr) -> bool {
        self.text == other.text
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts() -> Facts {
        let facts = json!({
            "params": {"skip_tests": false}, "environment": "prod", "risk": 0.4, "failed": 0, "coverage": 0.81,
            "plan": {"destroy": 1}, "files": ["infra/main.tf", "README.md"], "test": {"result": "succeeded", "image": "shop:7"},
        });
        facts.as_object().cloned().unwrap()
    }

    #[test]
    fn conditions_of_pipelines_hold_or_not() {
        let holds = |text: &str| Expr::parse(text).unwrap().holds(&facts());
        for text in [
            "environment == 'prod'",
            "!params.skip_tests",
            "risk > 0.3 || plan.destroy > 0",
            "coverage >= 0.80 && failed == 0",
            "changed('infra/**')",
            "test.result == 'succeeded' && test.image.startsWith('shop:')",
            "risk < 1",
        ] {
            assert_eq!(holds(text), Ok(true), "{text}");
        }
        for text in ["environment != 'prod'", "changed('docs/**')", "failed > 0"] {
            assert_eq!(holds(text), Ok(false), "{text}");
        }
    }

    #[test]
    fn what_is_in_doubt_is_a_fault_and_never_true() {
        for text in ["nothing > 3", "params.unknown == 'x'", "environment", "1 + 1", "params.skip_tests > 3"] {
            assert!(Expr::parse(text).unwrap().holds(&facts()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_slip_is_told_with_its_column() {
        let fault = Expr::parse("environment = 'prod'").unwrap_err();
        assert!(fault.column > 1 && fault.message.contains("no condition"), "{fault:?}");
        assert!(Expr::parse("").is_err());
    }
}
