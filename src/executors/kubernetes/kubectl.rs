//! `kubectl`, called with bounded time and output, and what its complaints mean.
//!
//! It carries the user's own way to log in (certificates, tokens, helpers), so there is one contract with every cluster.

use std::time::Duration;

use serde_json::Value;

use crate::executors::local::run_whole;
use crate::executors::{Class, Cluster, Command, Failure, Hands, Step};

/// How long the API may take for one request.
const REQUEST: &str = "--request-timeout=10s";
/// How long one call may take in all: helpers that log in need time too.
const CALL: Duration = Duration::from_secs(40);
/// The longest answer: hundreds of pods as JSON.
const ANSWER_MAX: usize = 16 << 20;
/// Variables of our own that tell kubectl where it is.
const PASSED: &[&str] = &["KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"];
/// The longest complaint that is passed on.
const COMPLAINT_MAX: usize = 300;

/// One cluster, and one namespace in it.
#[derive(Clone, Debug)]
pub(super) struct Kubectl {
    base: Vec<String>,
    env: Vec<(String, String)>,
    /// The name of the cluster, for sentences.
    pub(super) cluster: String,
}

/// What sort of fault it is, as far as we act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// What was asked for is not there.
    Missing,
    /// We may not.
    Denied,
    /// It may work a moment later.
    Passing,
    /// Anything else.
    Other,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) failure: Failure,
}

/// Why we do not go on.
#[derive(Debug)]
pub(super) enum Halt {
    /// The step is to end.
    Stop,
    /// Something is wrong.
    Fault(Fault),
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Halt {
        Halt::Fault(Fault { kind: Kind::Other, failure })
    }
}

impl Kubectl {
    /// For a cluster of the configuration and a namespace, if one is named.
    pub(super) fn new(name: &str, cluster: &Cluster, namespace: Option<&str>, step: &Step) -> Kubectl {
        let mut base = vec!["kubectl".to_owned(), REQUEST.to_owned()];
        base.push(format!("--context={}", cluster.context.as_deref().unwrap_or(name)));
        if let Some(path) = &cluster.kubeconfig {
            base.push(format!("--kubeconfig={}", path.display()));
        }
        if let Some(namespace) = namespace.or(cluster.namespace.as_deref()) {
            base.push(format!("--namespace={namespace}"));
        }
        let own = PASSED.iter().filter_map(|key| Some(((*key).to_owned(), std::env::var(key).ok()?)));
        let told = step.env.iter().map(|(key, value)| (key.clone(), value.reveal().to_owned()));
        Kubectl { base, env: own.chain(told).collect(), cluster: name.to_owned() }
    }

    /// Calls it to the end, also while the step is to end: for what changes something.
    pub(super) async fn call(&self, args: &[&str], stdin: Option<Vec<u8>>) -> Result<Vec<u8>, Fault> {
        let argv = self.base.iter().cloned().chain(args.iter().map(|arg| (*arg).to_owned())).collect();
        let command = Command { argv, stdin, env: self.env.clone(), cwd: None, timeout: CALL };
        match run_whole(command, ANSWER_MAX).await {
            Ok(None) => {
                let line = format!(
                    "cluster {} answers with more than {} MiB; give the deployment a namespace of its own, or let its \
                     selector match fewer pods",
                    self.cluster,
                    ANSWER_MAX >> 20
                );
                Err(Fault { kind: Kind::Other, failure: Failure::new(Class::Config, line) })
            }
            Ok(Some(output)) if output.code == Some(0) => Ok(output.stdout),
            Ok(Some(output)) => Err(read_fault(&String::from_utf8_lossy(&output.stderr), &self.cluster)),
            Err(fault) if fault.0.starts_with("kubectl:") => {
                let line = "kubectl is not installed here; install it, or put its folder into PATH";
                Err(Fault { kind: Kind::Other, failure: Failure::new(Class::Config, line) })
            }
            Err(_slow) => {
                let line = format!("the API of cluster {} gives no answer within {}s", self.cluster, CALL.as_secs());
                Err(Fault { kind: Kind::Passing, failure: Failure::new(Class::Network, line) })
            }
        }
    }

    /// Reads something, unless the step is to end.
    pub(super) async fn read(&self, args: &[&str], hands: &Hands) -> Result<Vec<u8>, Halt> {
        tokio::select! {
            biased;
            () = hands.stopping() => Err(Halt::Stop),
            read = self.call(args, None) => read.map_err(Halt::Fault),
        }
    }

    /// Reads JSON, unless the step is to end.
    pub(super) async fn json(&self, args: &[&str], hands: &Hands) -> Result<Value, Halt> {
        let bytes = self.read(args, hands).await?;
        parse(&bytes, &self.cluster).map_err(Halt::Fault)
    }

    /// Patches a deployment and gives it as it is then. `form` is `strategic` or `json`.
    pub(super) async fn patch(&self, deployment: &str, form: &str, patch: &Value) -> Result<Value, Fault> {
        // By standard input: a whole pod template may be longer than an argument can be.
        let form = format!("--type={form}");
        let args = ["patch", "deployments.apps", deployment, &form, "--patch-file=/dev/stdin", "-o", "json"];
        let bytes = self.call(&args, Some(patch.to_string().into_bytes())).await?;
        parse(&bytes, &self.cluster)
    }
}

fn parse(bytes: &[u8], cluster: &str) -> Result<Value, Fault> {
    serde_json::from_slice(bytes).map_err(|_| {
        let line = format!("the API of cluster {cluster} gave an answer that cannot be read");
        Fault { kind: Kind::Passing, failure: Failure::new(Class::Network, line) }
    })
}

/// Text from outside without control characters, and not too long. It keeps its indentation.
pub(super) fn clean(text: &str, most: usize) -> String {
    let whole: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match whole.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

/// One line of it for people.
pub(super) fn plain(text: &str, most: usize) -> String {
    clean(text.trim(), most).trim().to_owned()
}

/// Phrases of kubectl and client-go for what may work a moment later.
const PASSING: &[&str] = &[
    "unable to connect to the server",
    "the connection to the server",
    "dial tcp",
    "i/o timeout",
    "no such host",
    "connection reset",
    "context deadline exceeded",
    "client.timeout",
    "request canceled",
    "tls handshake timeout",
    "unexpected eof",
    "http2:",
    "(serviceunavailable)",
    "(servertimeout)",
    "(timeout)",
    "(toomanyrequests)",
    "(internalerror)",
    "(conflict)",
    "currently unable to handle the request",
    "etcdserver",
];

/// What a complaint of kubectl means. The reasons in parentheses are those of the API's `Status`.
pub(super) fn read_fault(stderr: &str, cluster: &str) -> Fault {
    // Lines such as `E1121 16:39:19.866463 13028 memcache.go:265]` are its log.
    let is_log = |line: &str| line.starts_with(['E', 'W', 'I']) && line.contains(".go:") && line.contains("] ");
    let last = stderr.lines().rev().find(|line| !line.trim().is_empty() && !is_log(line)).unwrap_or("");
    let text = plain(last, COMPLAINT_MAX);
    let low = text.to_ascii_lowercase();
    let has = |part: &str| low.contains(part);
    let said = text.trim_start_matches("Error from server ").trim_start_matches("error: ");
    let fault = |kind, class, line: String| Fault { kind, failure: Failure::new(class, line) };
    if let Some((kind, class, line)) = own_fault(&text, said, cluster) {
        fault(kind, class, line)
    } else if has("(notfound)") || has(" not found") {
        let said = said.trim_start_matches("(NotFound): ");
        fault(Kind::Missing, Class::Config, format!("cluster {cluster} says: {said}"))
    } else if has("x509:") || has("certificate") {
        let why = text.rsplit_once("x509:").map_or(said, |(_, why)| why.trim());
        let line = format!(
            "the certificate of cluster {cluster} is not trusted ({why}); put its authority into the kubeconfig"
        );
        fault(Kind::Other, Class::Network, line)
    } else if PASSING.iter().any(|phrase| has(phrase)) {
        fault(
            Kind::Passing,
            Class::Network,
            format!(
                "the API of cluster {cluster} cannot be reached: {said}; see whether it is up, and the server in its kubeconfig"
            ),
        )
    } else if has("(invalid)") || has("(badrequest)") || has("is invalid:") {
        fault(Kind::Other, Class::Config, format!("cluster {cluster} refuses the change: {said}"))
    } else if text.is_empty() {
        fault(Kind::Other, Class::Unknown, "kubectl failed and did not say why".to_owned())
    } else {
        fault(Kind::Other, Class::Unknown, format!("kubectl failed: {said}"))
    }
}

/// Complaints about how we are configured and who we are.
fn own_fault(text: &str, said: &str, cluster: &str) -> Option<(Kind, Class, String)> {
    let low = text.to_ascii_lowercase();
    let has = |part: &str| low.contains(part);
    let (kind, class, line) = if has("context was not found") || (has("context \"") && has("does not exist")) {
        let line =
            format!("the kubeconfig has no context for cluster {cluster}; set executors.kubernetes.{cluster}.context");
        (Kind::Other, Class::Config, line)
    } else if has("loading config file") || (has("stat ") && has("no such file")) || has("invalid configuration") {
        let line = format!(
            "the kubeconfig of cluster {cluster} cannot be read ({said}); set executors.kubernetes.{cluster}.kubeconfig to one"
        );
        (Kind::Other, Class::Config, line)
    } else if has("(unauthorized)") || has("provide credentials") || has("must be logged in") {
        let line = format!("cluster {cluster} does not know who we are (401); renew the credentials in its kubeconfig");
        (Kind::Denied, Class::Auth, line)
    } else if said == "EOF" {
        // Without credentials it asks for a user name, and there is nobody to type one.
        let line = format!("the kubeconfig has no credentials for cluster {cluster}; add a user to its context");
        (Kind::Denied, Class::Auth, line)
    } else if has("getting credentials") {
        (
            Kind::Denied,
            Class::Auth,
            format!("kubectl cannot log in to cluster {cluster}: {said}; try the login of its kubeconfig by hand"),
        )
    } else if has("(forbidden)") {
        (Kind::Denied, Class::Auth, forbidden(text, cluster))
    } else {
        return None;
    };
    Some((kind, class, line))
}

/// `... User "x" cannot patch resource "deployments" in API group "apps" in the namespace "web"`.
fn forbidden(text: &str, cluster: &str) -> String {
    let quoted = |after: &str| text.split_once(after)?.1.split('"').next().map(str::to_owned);
    let verb = text.split_once(" cannot ").and_then(|(_, rest)| rest.split(' ').next());
    match (quoted("User \""), verb, quoted("resource \"")) {
        (Some(user), Some(verb), Some(resource)) => {
            let place = quoted("in the namespace \"").map_or(String::new(), |name| format!(" in namespace {name}"));
            format!("{user} may not {verb} {resource}{place} of cluster {cluster} (403); add that to its Role")
        }
        _ => format!(
            "cluster {cluster} refuses it (403): {}",
            text.trim_start_matches("Error from server (Forbidden): ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_complaint_becomes_one_sentence_with_its_class() {
        let refused = "E1121 16:39:19.866463   13028 memcache.go:265] \"Unhandled Error\" err=\"dial tcp\"\n\
            The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?\n";
        let forbidden = "Error from server (Forbidden): deployments.apps \"shop\" is forbidden: User \"bot\" cannot patch \
            resource \"deployments\" in API group \"apps\" in the namespace \"web\"";
        for (text, kind, class, part) in [
            (refused, Kind::Passing, Class::Network, "cannot be reached: The connection to the server 10.0.0.1:6443"),
            (forbidden, Kind::Denied, Class::Auth, "bot may not patch deployments in namespace web of cluster prod"),
            ("error: You must be logged in to the server (Unauthorized)", Kind::Denied, Class::Auth, "who we are"),
            ("error: EOF", Kind::Denied, Class::Auth, "no credentials for cluster prod"),
            ("error: context \"prod\" does not exist", Kind::Other, Class::Config, "no context for cluster prod"),
            (
                "Error in configuration: context was not found for specified context: prod",
                Kind::Other,
                Class::Config,
                "no context for cluster prod",
            ),
            (
                "Unable to connect to the server: tls: failed to verify certificate: x509: certificate has expired",
                Kind::Other,
                Class::Network,
                "certificate has expired",
            ),
            ("Error from server (NotFound): deployments.apps \"x\" not found", Kind::Missing, Class::Config, "\"x\""),
            (
                "Error from server (ServiceUnavailable): the server is currently unable to handle the request",
                Kind::Passing,
                Class::Network,
                "cannot be reached",
            ),
            ("The Deployment \"x\" is invalid: spec: oh", Kind::Other, Class::Config, "refuses the change"),
            ("", Kind::Other, Class::Unknown, "did not say why"),
            ("something\u{1b}[31m new\n", Kind::Other, Class::Unknown, "kubectl failed: something [31m new"),
        ] {
            let fault = read_fault(text, "prod");
            assert_eq!((fault.kind, fault.failure.class), (kind, class), "{text}");
            assert!(fault.failure.line.contains(part), "{}", fault.failure.line);
        }
    }

    #[test]
    fn text_from_outside_is_one_short_line() {
        assert_eq!(plain(" a\nb\u{7}c ", 10), "a b c");
        assert_eq!(plain("äöüß", 3), "äöü…");
    }
}
