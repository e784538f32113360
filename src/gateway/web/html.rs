//! Text that browsers read. What comes from outside gets in through one door, which hides secrets and escapes.

use std::sync::Arc;

use warp::Reply as _;
use warp::http::{HeaderValue, Response, StatusCode, header};

use super::assets;
use super::session::Visitor;

/// Takes secrets out of a text.
pub type Hide = Arc<dyn Fn(&str) -> String + Send + Sync>;

/// What a page may do: its own script, style and addresses; nothing inline, nothing of others, and nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// What else each answer says. With no-referrer a browser would not tell from where a form was sent.
const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// A part of a page.
#[derive(Clone)]
pub(super) struct Html {
    out: String,
    hide: Hide,
}

impl Html {
    pub(super) fn new(hide: &Hide) -> Html {
        Html { out: String::new(), hide: Arc::clone(hide) }
    }

    /// What stands in this program.
    pub(super) fn raw(&mut self, text: &'static str) -> &mut Html {
        self.out.push_str(text);
        self
    }

    /// What comes from outside.
    pub(super) fn text(&mut self, text: impl AsRef<str>) -> &mut Html {
        escape(&shown(&self.hide, text.as_ref()), &mut self.out);
        self
    }

    /// A number, which needs no care.
    pub(super) fn number(&mut self, number: i64) -> &mut Html {
        self.out.push_str(&number.to_string());
        self
    }

    /// A part of an address: `/a/` and an app.
    pub(super) fn segment(&mut self, text: &str) -> &mut Html {
        let segment = segment(text);
        self.text(segment)
    }

    /// A part that is made already.
    pub(super) fn add(&mut self, part: &Html) -> &mut Html {
        self.out.push_str(&part.out);
        self
    }

    pub(super) fn into_string(self) -> String {
        self.out
    }
}

/// A text as it is shown, before it is escaped.
pub(super) fn shown(hide: &Hide, text: &str) -> String {
    hide(&clean(text))
}

/// A text as one part of an address.
pub(super) fn segment(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
}

/// A text without what colours terminals, and with a mark for what would act on a reader unseen or turn a line around.
fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                if chars.next_if_eq(&'[').is_some() {
                    while chars.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                    chars.next();
                }
            }
            '\n' | '\t' => out.push(c),
            // In channels it keeps clients from calling somebody.
            '\u{200b}' | '\r' => {}
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A page's frame.
pub(super) struct Frame<'a> {
    pub(super) status: StatusCode,
    pub(super) title: &'a str,
    pub(super) visitor: Option<&'a Visitor>,
    /// Where it hears what changes.
    pub(super) live: Option<String>,
}

impl<'a> Frame<'a> {
    pub(super) fn of(title: &'a str, visitor: &'a Visitor) -> Frame<'a> {
        Frame { status: StatusCode::OK, title, visitor: Some(visitor), live: None }
    }
}

/// A whole page.
pub(super) fn page(frame: Frame<'_>, body: &Html) -> warp::reply::Response {
    let mut html = Html::new(&body.hide);
    html.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>");
    html.text(frame.title)
        .raw(" · MasterChief</title><link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"");
    html.text(assets::style())
        .raw("\"><script defer src=\"")
        .text(assets::script())
        .raw("\"></script></head><body><header><nav>");
    if let Some(visitor) = frame.visitor {
        html.raw("<a href=\"/r\">Runs</a><a href=\"/a\">Apps</a><a href=\"/deploy\">Deploy</a>");
        html.raw("<span id=\"live\" role=\"status\"></span><form method=\"post\" action=\"/logout\"><button>Log out ");
        html.text(visitor.called()).raw("</button></form>");
    } else {
        html.raw("<strong>MasterChief</strong>");
    }
    html.raw("</nav></header><main");
    if let Some(live) = &frame.live {
        html.raw(" data-live=\"").text(live).raw("\"");
    }
    html.raw(">")
        .add(body)
        .raw("</main><div id=\"toasts\" role=\"status\" aria-live=\"polite\"></div></body></html>\n");
    send(frame.status, "text/html; charset=utf-8", "no-store", html.into_string())
}

/// An answer with all that is to be said beside it.
pub(super) fn send(status: StatusCode, kind: &'static str, cache: &'static str, body: String) -> warp::reply::Response {
    let mut out = Response::new(body.into_bytes());
    *out.status_mut() = status;
    out.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    out.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    guarded(out.into_response())
}

/// An answer that says what browsers may do with it.
pub(super) fn guarded(mut out: warp::reply::Response) -> warp::reply::Response {
    for (name, value) in HEADERS {
        out.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        let hide: Hide = Arc::new(|text| text.replace("hunter2", "***"));
        let mut html = Html::new(&hide);
        html.text(text);
        html.into_string()
    }

    #[test]
    fn nothing_from_outside_is_read_as_anything_but_text() {
        assert_eq!(
            written("<img src=x onerror='a(\"b\")'>&amp;"),
            "&lt;img src=x onerror=&#39;a(&quot;b&quot;)&#39;&gt;&amp;amp;"
        );
        assert_eq!(written("a\u{1b}[1;31mred\u{1b}[0m\u{7}b\u{202e}c\u{200b}"), "ared\u{fffd}b\u{fffd}c");
        assert_eq!(written("one\r\ntwo\t3"), "one\ntwo\t3");
        assert_eq!(written("hun\u{1b}[0mter2 is out"), "*** is out", "what colours hide is found");
        assert_eq!(written("\u{1b}[31"), "", "what breaks off is over");
    }

    #[test]
    fn a_part_of_an_address_stays_one() {
        assert_eq!(segment("a/b?c#d e%"), "a%2Fb%3Fc%23d%20e%25");
        assert_eq!(segment("shop-1.2_x~"), "shop-1.2_x~");
    }
}
