//! What reaches outside on a handler's behalf: HTTP and commands. Each asks who declared what before it does anything.

mod http;
mod shell;

use masterchief_contract::Future;

pub use http::{NetHttp, Request, Response};
pub use shell::{Command, LocalShell, Output};

/// Why something outside was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExecFault(pub String);

/// Makes HTTP requests.
pub trait Http: Send + Sync + 'static {
    /// Sends a request to one of `hosts` and reads the answer, both within the request's time. Redirects are
    /// followed to the same hosts only.
    fn request(&self, request: Request, hosts: Vec<String>) -> Future<Result<Response, ExecFault>>;
}

/// Runs commands.
pub trait Shell: Send + Sync + 'static {
    /// Runs a command and waits for it. There is no shell between: arguments are passed as they are.
    fn run(&self, command: Command) -> Future<Result<Output, ExecFault>>;
}
