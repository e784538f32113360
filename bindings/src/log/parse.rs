//! What a line says: syslog, JSON, logfmt, the access logs of web servers, or a pattern of one's own.

use chrono::{DateTime, Datelike, Utc};
use masterchief_contract::{Inbound, Value};
use regex::Regex;
use serde_json::Map;

use super::lines::Line;

/// How lines are read.
#[derive(Clone, Debug, Default)]
pub(crate) enum Parser {
    /// Not at all.
    #[default]
    None,
    /// RFC 3164 or 5424, whichever it is.
    Syslog,
    /// One JSON object a line.
    Json,
    /// `key=value key="a value"`.
    Logfmt,
    /// The common and the combined log format of Apache and nginx.
    Access,
    /// The named groups of a pattern.
    Regex(Box<Regex>),
}

/// A line as an event.
pub(super) fn inbound(line: Line, parser: &Parser) -> Inbound {
    let mut fields = vec![("offset", Value::from(line.offset))];
    if line.cut {
        fields.push(("cut", Value::Bool(true)));
    }
    let (text, body) = match String::from_utf8(line.bytes) {
        Ok(text) => (text, Vec::new()),
        Err(fault) => (String::from_utf8_lossy(fault.as_bytes()).into_owned(), fault.into_bytes()),
    };
    let data = parser.parse(&text);
    let at = data.at.unwrap_or_else(Utc::now);
    if !data.fields.is_empty() {
        fields.push(("data", Value::Object(data.fields)));
    }
    Inbound { key: None, at, text, fields, body }
}

/// What was understood of a line.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Data {
    /// When it was written, if the line says so.
    pub(crate) at: Option<DateTime<Utc>>,
    /// The rest.
    pub(crate) fields: Map<String, Value>,
}

/// `%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-agent}i"`
const ACCESS: &str = r#"^(?P<client>\S+) \S+ (?P<user>\S+) \[(?P<time>[^\]]+)\] "(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}) (?P<bytes>\d+|-)(?: "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)")?"#;

impl Parser {
    /// A parser by its name in a mask or a configuration.
    pub(crate) fn named(name: &str) -> Option<Parser> {
        Some(match name {
            "text" => Parser::None,
            "syslog" => Parser::Syslog,
            "json" => Parser::Json,
            "logfmt" => Parser::Logfmt,
            "nginx" | "apache" | "access" => Parser::Access,
            _ => return None,
        })
    }

    /// What a line says; nothing where it is not of this form.
    pub(crate) fn parse(&self, line: &str) -> Data {
        match self {
            Parser::None => Data::default(),
            Parser::Syslog => syslog(line),
            Parser::Json => json(line),
            Parser::Logfmt => logfmt(line),
            Parser::Access => access(line),
            Parser::Regex(pattern) => groups(pattern, line),
        }
    }
}

/// The names that [`Parser::named`] knows.
pub(crate) const NAMES: &str = "text, syslog, json, logfmt, nginx, apache";

pub(super) fn syslog(line: &str) -> Data {
    let now = Utc::now();
    // The old form has no year: a month that is still to come was last year's.
    let year = |(month, ..): syslog_loose::IncompleteDate| now.year() - i32::from(month > now.month() + 1);
    let message = syslog_loose::parse_message_with_year(line, year, syslog_loose::Variant::Either);
    let mut fields = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), Value::String(value));
        }
    };
    put("facility", message.facility.map(|facility| facility.as_str().to_owned()));
    put("severity", message.severity.map(|severity| severity.as_str().to_owned()));
    put("host", message.hostname.map(str::to_owned));
    put("app", message.appname.map(str::to_owned));
    put("pid", message.procid.map(|pid| pid.to_string()));
    put("msgid", message.msgid.map(str::to_owned));
    put("message", Some(message.msg.to_owned()));
    let mut structured = Map::new();
    for element in &message.structured_data {
        let params = element.params().map(|(name, value)| ((*name).to_owned(), Value::String(value.to_string())));
        structured.insert(element.id.to_owned(), Value::Object(params.collect()));
    }
    if !structured.is_empty() {
        fields.insert("structured".to_owned(), Value::Object(structured));
    }
    Data { at: message.timestamp.map(|at| at.to_utc()), fields }
}

fn json(line: &str) -> Data {
    let Ok(Value::Object(fields)) = serde_json::from_str(line) else { return Data::default() };
    let at = ["time", "timestamp", "ts", "@timestamp"].iter().find_map(|name| moment(fields.get(*name)?));
    Data { at, fields }
}

/// RFC 3339, or seconds or milliseconds since 1970.
fn moment(value: &Value) -> Option<DateTime<Utc>> {
    match value {
        Value::String(text) => DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc()),
        Value::Number(number) => {
            let number = number.as_f64().filter(|number| *number > 0.0)?;
            let seconds = if number > 1e11 { number / 1000.0 } else { number };
            DateTime::from_timestamp_micros((seconds * 1e6) as i64)
        }
        _ => None,
    }
}

fn logfmt(line: &str) -> Data {
    let mut fields = Map::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let end = rest.find(|letter: char| letter == '=' || letter.is_whitespace()).unwrap_or(rest.len());
        let (key, after) = rest.split_at(end);
        let Some(value) = after.strip_prefix('=') else {
            if !key.is_empty() {
                fields.insert(key.to_owned(), Value::Bool(true));
            }
            rest = after.trim_start();
            continue;
        };
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let end = value.find(char::is_whitespace).unwrap_or(value.len());
                (value[..end].to_owned(), &value[end..])
            }
        };
        if !key.is_empty() {
            fields.insert(key.to_owned(), Value::String(value));
        }
        rest = after.trim_start();
    }
    let at = ["time", "ts", "timestamp"].iter().find_map(|name| moment(fields.get(*name)?));
    Data { at, fields }
}

/// What stands up to the closing quote, and what comes after it.
fn unquoted(text: &str) -> (String, &str) {
    let mut out = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (out, &text[at + 1..]),
            '\\' => match letters.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, other)) => out.push(other),
                None => {}
            },
            other => out.push(other),
        }
    }
    (out, "")
}

fn access(line: &str) -> Data {
    static PATTERN: std::sync::LazyLock<Option<Regex>> = std::sync::LazyLock::new(|| Regex::new(ACCESS).ok());
    let Some(pattern) = &*PATTERN else { return Data::default() };
    let mut data = groups(pattern, line);
    if let Some(time) = data.fields.get("time").and_then(Value::as_str) {
        data.at = DateTime::parse_from_str(time, "%d/%b/%Y:%H:%M:%S %z").ok().map(|at| at.to_utc());
    }
    if let Some(request) = data.fields.get("request").and_then(Value::as_str).map(str::to_owned) {
        let mut words = request.split(' ');
        for name in ["method", "path", "protocol"] {
            if let Some(word) = words.next() {
                data.fields.insert(name.to_owned(), Value::from(word));
            }
        }
    }
    data
}

/// Named groups; what is a whole number becomes one.
fn groups(pattern: &Regex, line: &str) -> Data {
    let Some(found) = pattern.captures(line) else { return Data::default() };
    let mut fields = Map::new();
    for name in pattern.capture_names().flatten() {
        let Some(group) = found.name(name) else { continue };
        let text = group.as_str();
        let number = (text.len() < 16).then(|| text.parse::<u64>().ok()).flatten();
        let plain = number.filter(|number| number.to_string() == text);
        fields.insert(name.to_owned(), plain.map_or_else(|| Value::from(text), Value::from));
    }
    Data { at: None, fields }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(name: &str, line: &str) -> Value {
        Value::Object(Parser::named(name).unwrap().parse(line).fields)
    }

    #[test]
    fn syslog_of_both_kinds_is_read() {
        let old = fields("syslog", "<34>Oct 11 22:14:15 mymachine su[77]: 'su root' failed for lonvick");
        assert_eq!((&old["severity"], &old["app"], &old["pid"]), (&json!("crit"), &json!("su"), &json!("77")));
        assert_eq!(old["message"], json!("'su root' failed for lonvick"));
        let line = r#"<165>1 2003-10-11T22:14:15.003Z host app 12 ID47 [ex@1 iut="3" src="A\"pp"] words"#;
        let new = Parser::Syslog.parse(line);
        assert_eq!(new.at.unwrap().to_rfc3339(), "2003-10-11T22:14:15.003+00:00");
        assert_eq!(new.fields["structured"]["ex@1"]["iut"], json!("3"));
        assert_eq!((&new.fields["facility"], &new.fields["msgid"]), (&json!("local4"), &json!("ID47")));
    }

    #[test]
    fn json_logfmt_and_access_logs_are_read() {
        let data = Parser::Json.parse(r#"{"time":"2026-01-02T03:04:05Z","level":"error","n":3}"#);
        assert_eq!((data.at.unwrap().timestamp(), &data.fields["n"]), (1_767_323_045, &json!(3)));
        assert_eq!(Parser::Json.parse("not json"), Data::default());
        assert_eq!(
            fields("logfmt", r#"level=info msg="a \"b\" c" dur=3ms flag =odd k="open"#),
            json!({"level": "info", "msg": "a \"b\" c", "dur": "3ms", "flag": true, "k": "open"})
        );
        let line = r#"10.0.0.1 - bob [10/Oct/2000:13:55:36 -0700] "GET /a?b=1 HTTP/1.1" 503 2326 "-" "curl/8""#;
        let data = Parser::Access.parse(line);
        assert_eq!(data.at.unwrap().to_rfc3339(), "2000-10-10T20:55:36+00:00");
        assert_eq!((&data.fields["status"], &data.fields["path"]), (&json!(503), &json!("/a?b=1")));
        assert_eq!(fields("nginx", "garbage"), json!({}));
    }

    #[test]
    fn the_groups_of_a_pattern_become_fields() {
        let parser = Parser::Regex(Box::new(Regex::new(r"^(?P<app>\w+) took (?P<ms>\d+)").unwrap()));
        assert_eq!(Value::Object(parser.parse("shop took 0120").fields), json!({"app": "shop", "ms": "0120"}));
        assert_eq!(Value::Object(parser.parse("shop took 120 ms").fields), json!({"app": "shop", "ms": 120}));
    }
}
