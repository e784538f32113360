//! The style and the script of all pages: in the program, under names that change when they do.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};
use warp::http::StatusCode;
use warp::reply::Response;

use super::html::send;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("page.js");
/// A name never means anything else.
const FOREVER: &str = "public, max-age=31536000, immutable";

static NAMES: LazyLock<[String; 2]> = LazyLock::new(|| [named(STYLE, "css"), named(SCRIPT, "js")]);

fn named(text: &str, end: &str) -> String {
    let hash: String = Sha256::digest(text.as_bytes()).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("/page/{hash}.{end}")
}

/// Where the style is.
pub(super) fn style() -> &'static str {
    &NAMES[0]
}

/// Where the script is.
pub(super) fn script() -> &'static str {
    &NAMES[1]
}

/// One of them, for everybody: nothing of anybody is in it.
pub(super) fn answer(path: &str) -> Option<Response> {
    if path == style() {
        return Some(send(StatusCode::OK, "text/css; charset=utf-8", FOREVER, STYLE.to_owned()));
    }
    (path == script()).then(|| send(StatusCode::OK, "text/javascript; charset=utf-8", FOREVER, SCRIPT.to_owned()))
}
