//! What goes wrong over a network: in words, and whether it may pass by itself.

use std::error::Error;

use masterchief_contract::SourceError;
use reqwest::StatusCode;

/// What a certificate that is not trusted is called, whoever speaks TLS.
const CERTIFICATE: &str = "invalid peer certificate";

/// The words of a fault and of what is behind it: a client's own often say no more than that it failed.
pub(crate) fn words(fault: &(dyn Error + 'static)) -> String {
    let mut out = fault.to_string();
    let mut behind = fault.source();
    while let Some(cause) = behind {
        let text = cause.to_string();
        if !out.contains(&text) {
            out = format!("{out}: {text}");
        }
        behind = cause.source();
    }
    out
}

/// The line is cut, or there was none. Who the other side is passes with no time; the rest may.
pub(crate) fn lost(fault: &(dyn Error + 'static)) -> SourceError {
    let text = words(fault);
    if text.contains(CERTIFICATE) { SourceError::Wrong(text) } else { SourceError::Lost(text) }
}

/// Whether an answer of HTTP that is none may be another one soon: too many ask, it was too early, a server is ill.
pub(crate) fn passes(status: StatusCode) -> bool {
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::LOCKED | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            true
        }
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => false,
        status => status.is_server_error(),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("error sending request")]
    struct Outer(#[source] io::Error);

    #[test]
    fn what_is_behind_a_fault_is_told_and_a_certificate_does_not_pass() {
        let refused = Outer(io::Error::other("connection refused"));
        assert_eq!(lost(&refused), SourceError::Lost("error sending request: connection refused".to_owned()));
        let stranger = Outer(io::Error::other("invalid peer certificate: UnknownIssuer"));
        assert!(matches!(lost(&stranger), SourceError::Wrong(why) if why.ends_with("UnknownIssuer")));
    }

    #[test]
    fn what_a_server_says_of_itself_or_of_the_moment_passes() {
        let passing = [408, 423, 425, 429, 500, 502, 503, 504, 507, 521, 599];
        let wrong = [400, 401, 403, 404, 405, 409, 410, 415, 422, 501, 505];
        for (statuses, wanted) in [(&passing[..], true), (&wrong[..], false)] {
            for status in statuses {
                assert_eq!(passes(StatusCode::from_u16(*status).unwrap()), wanted, "{status}");
            }
        }
    }
}
