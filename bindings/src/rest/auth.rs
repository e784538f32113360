//! Proving who we are: bearer, basic, and OAuth2 client credentials (RFC 6749, 4.4) with tokens that are renewed.

use std::time::Duration;

use masterchief_contract::{Secret, SourceError, Value};
use reqwest::{Client, RequestBuilder};
use tokio::time::Instant;

use super::settings::AuthSettings;
use crate::faults;

/// A token is renewed so long before it ends.
const EARLY: Duration = Duration::from_secs(30);
/// How long a token is used at most.
const LONGEST: Duration = Duration::from_secs(86_400);
/// How long a token is good if nothing is said.
const USUAL: Duration = Duration::from_secs(300);

pub(super) struct Auth {
    settings: AuthSettings,
    token: Option<(Secret, Instant)>,
}

impl Auth {
    pub(super) fn new(settings: &AuthSettings) -> Result<Auth, String> {
        let ways = [settings.bearer.is_some(), settings.username.is_some(), settings.token_url.is_some()];
        if ways.iter().filter(|way| **way).count() > 1 {
            return Err("auth: bearer, username and token_url exclude each other".to_owned());
        }
        if settings.token_url.is_some() && (settings.client_id.is_none() || settings.client_secret.is_none()) {
            return Err("auth: token_url needs client_id and client_secret".to_owned());
        }
        Ok(Auth { settings: settings.clone(), token: None })
    }

    /// Signs a request, with a new token where one is due.
    pub(super) async fn sign(
        &mut self,
        client: &Client,
        request: RequestBuilder,
    ) -> Result<RequestBuilder, SourceError> {
        if let Some(token) = &self.settings.bearer {
            return Ok(request.bearer_auth(token.reveal()));
        }
        if let Some(name) = &self.settings.username {
            return Ok(request.basic_auth(name, self.settings.password.as_ref().map(Secret::reveal)));
        }
        let Some(url) = &self.settings.token_url else { return Ok(request) };
        let good = |(_, until): &(Secret, Instant)| Instant::now() < *until;
        if !self.token.as_ref().is_some_and(good) {
            self.token = Some(self.renewed(client, url).await?);
        }
        Ok(match &self.token {
            Some((token, _)) => request.bearer_auth(token.reveal()),
            None => request,
        })
    }

    /// The token was refused: the next request gets another. Whether there was one.
    pub(super) fn refused(&mut self) -> bool {
        self.token.take().is_some()
    }

    async fn renewed(&self, client: &Client, url: &str) -> Result<(Secret, Instant), SourceError> {
        let lost = |fault: reqwest::Error| match faults::lost(&fault.without_url()) {
            SourceError::Wrong(why) => SourceError::Wrong(format!("the token: {why}")),
            passes => SourceError::Lost(format!("the token: {passes}")),
        };
        let form = {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "client_credentials");
            if let Some(scope) = &self.settings.scope {
                form.append_pair("scope", scope);
            }
            form.finish()
        };
        let request = client
            .post(url)
            .basic_auth(
                self.settings.client_id.as_deref().unwrap_or(""),
                self.settings.client_secret.as_ref().map(Secret::reveal),
            )
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        if faults::passes(status) {
            return Err(SourceError::Lost(format!("no token is given now: {status}")));
        }
        if !status.is_success() {
            return Err(SourceError::Wrong(format!(
                "no token is given: {status}; look at client_id, client_secret and scope"
            )));
        }
        let answer: Value = response.json().await.map_err(lost)?;
        let token = answer.get("access_token").and_then(Value::as_str);
        let token =
            token.ok_or_else(|| SourceError::Wrong("the answer of token_url holds no access_token".to_owned()))?;
        let good = answer.get("expires_in").and_then(Value::as_u64).map_or(USUAL, Duration::from_secs).min(LONGEST);
        Ok((Secret::new(token), Instant::now() + good.saturating_sub(EARLY).max(Duration::from_secs(1))))
    }
}
