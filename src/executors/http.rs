//! HTTP by reqwest, to declared hosts only.

use std::time::Duration;

use masterchief_contract::Future;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Url};

use super::{ExecFault, Http};

/// The longest body that is read.
const BODY_MAX: usize = 4 << 20;
/// Redirects followed.
const REDIRECTS_MAX: usize = 5;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`…
    pub method: String,
    /// The whole URL.
    pub url: String,
    /// Headers, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Option<Vec<u8>>,
    /// How long all of it may take.
    pub timeout: Duration,
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers with names in lower case; repeated ones repeat.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// The real network.
#[derive(Clone, Debug, Default)]
pub struct NetHttp;

impl Http for NetHttp {
    fn request(&self, request: Request, hosts: Vec<String>) -> Future<Result<Response, ExecFault>> {
        Box::pin(async move {
            let timeout = request.timeout;
            match tokio::time::timeout(timeout, send(request, hosts)).await {
                Ok(result) => result,
                Err(_elapsed) => Err(ExecFault(format!("no answer within {timeout:?}"))),
            }
        })
    }
}

async fn send(request: Request, hosts: Vec<String>) -> Result<Response, ExecFault> {
    let url = Url::parse(&request.url).map_err(|fault| ExecFault(format!("this is not a URL: {fault}")))?;
    allowed(&url, &hosts)?;
    let method = Method::from_bytes(request.method.to_ascii_uppercase().as_bytes())
        .map_err(|_| ExecFault(format!("{:?} is not an HTTP method", request.method)))?;
    let mut sending = client(hosts)?.request(method, url).headers(headers(&request.headers)?);
    if let Some(body) = request.body {
        sending = sending.body(body);
    }
    let mut answer = sending.send().await.map_err(said)?;
    let mut response = Response { status: answer.status().as_u16(), ..Response::default() };
    for (name, value) in answer.headers() {
        response.headers.push((name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    }
    while let Some(chunk) = answer.chunk().await.map_err(said)? {
        if response.body.len() + chunk.len() > BODY_MAX {
            return Err(ExecFault(format!("the answer is longer than {BODY_MAX} bytes")));
        }
        response.body.extend_from_slice(&chunk);
    }
    Ok(response)
}

fn client(hosts: Vec<String>) -> Result<Client, ExecFault> {
    // A provider may be installed already; whichever was first serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let policy = Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error("too many redirects")
        } else if let Err(fault) = allowed(attempt.url(), &hosts) {
            attempt.error(fault)
        } else {
            attempt.follow()
        }
    });
    let builder = Client::builder().redirect(policy).connect_timeout(CONNECT).user_agent("masterchief");
    builder.build().map_err(said)
}

/// Whether a URL is one of the declared hosts, `host` or `host:port`, over http or https.
fn allowed(url: &Url, hosts: &[String]) -> Result<(), ExecFault> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ExecFault(format!("{} is neither http nor https", url.scheme())));
    }
    let host = url.host_str().unwrap_or("");
    let port = url.port_or_known_default().unwrap_or(0);
    let declared = hosts.iter().any(|declared| match declared.rsplit_once(':') {
        Some((name, number)) if number.parse() == Ok(port) => name.eq_ignore_ascii_case(host),
        _ => declared.eq_ignore_ascii_case(host) && matches!(port, 80 | 443),
    });
    if declared {
        return Ok(());
    }
    let write = if matches!(port, 80 | 443) { host.to_owned() } else { format!("{host}:{port}") };
    Err(ExecFault(format!("{write} is not declared; add bot.caps{{ http = {{ \"{write}\" }} }} to the script")))
}

fn headers(list: &[(String, String)]) -> Result<HeaderMap, ExecFault> {
    let mut map = HeaderMap::new();
    for (name, value) in list {
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| ExecFault(format!("{name:?} is not a header")))?;
        let value =
            HeaderValue::from_str(value).map_err(|_| ExecFault(format!("the value of {name} cannot be sent")))?;
        map.append(name, value);
    }
    Ok(map)
}

/// The whole chain of reasons, without the URL, which may hold a secret.
pub(super) fn said(fault: reqwest::Error) -> ExecFault {
    let fault = fault.without_url();
    let mut text = fault.to_string();
    let mut source = std::error::Error::source(&fault);
    while let Some(reason) = source {
        text = format!("{text}: {reason}");
        source = reason.source();
    }
    ExecFault(text)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server that gives each connection the next answer.
    async fn server(answers: Vec<String>) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await.unwrap();
                stream.write_all(answer.replace("PORT", &port.to_string()).as_bytes()).await.unwrap();
            }
        });
        port
    }

    fn get(url: String) -> Request {
        Request { method: "get".to_owned(), url, headers: Vec::new(), body: None, timeout: Duration::from_secs(5) }
    }

    #[tokio::test]
    async fn a_declared_host_answers_and_an_undeclared_one_is_never_asked() {
        let port = server(vec!["HTTP/1.1 201 Created\r\nX-A: b\r\nContent-Length: 2\r\n\r\nok".to_owned()]).await;
        let url = format!("http://127.0.0.1:{port}/x");
        let fault = NetHttp.request(get(url.clone()), vec!["127.0.0.1".to_owned()]).await.unwrap_err();
        assert!(fault.0.contains("is not declared"), "{fault}");
        let answer = NetHttp.request(get(url), vec![format!("127.0.0.1:{port}")]).await.unwrap();
        assert_eq!((answer.status, answer.body.as_slice()), (201, b"ok".as_slice()));
        assert!(answer.headers.contains(&("x-a".to_owned(), "b".to_owned())));
    }

    #[tokio::test]
    async fn a_redirect_leads_to_declared_hosts_only() {
        let elsewhere = "HTTP/1.1 302 Found\r\nLocation: http://localhost:PORT/secret\r\nContent-Length: 0\r\n\r\n";
        let port = server(vec![elsewhere.to_owned()]).await;
        let hosts = vec![format!("127.0.0.1:{port}")];
        let fault = NetHttp.request(get(format!("http://127.0.0.1:{port}/")), hosts).await.unwrap_err();
        assert!(fault.0.contains("is not declared"), "{fault}");
    }

    #[test]
    fn only_http_is_spoken() {
        let check = |url: &str| allowed(&Url::parse(url).unwrap(), &["example.net".to_owned()]).is_ok();
        assert!(check("https://example.net/") && check("http://EXAMPLE.net:80/"));
        assert!(
            !check("ftp://example.net/") && !check("https://example.net:8443/") && !check("https://example.net.evil/")
        );
    }
}
