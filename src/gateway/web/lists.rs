//! Lists: the newest runs, what is where of each app, what went to a place, a line of the incident log.

use warp::reply::Response;

use super::Asking;
use super::html::{Hide, Html, segment};
use super::run::{Part, state};
use crate::gateway::looks::Query;
use crate::pipelines::{Pipelines, Refusal, words};
use crate::store::runs::Which;

/// Rows of a list.
const ROWS: u32 = 30;
/// Lines of the incident log that are looked through for what amends one.
const INCIDENTS: u32 = 1000;

/// Which runs are meant.
#[derive(Clone, Default)]
pub(super) struct Filter {
    app: Option<String>,
    env: Option<String>,
    below: Option<i64>,
}

impl Filter {
    pub(super) fn read(query: &Query) -> Filter {
        let text = |name: &str| query.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let app = text("app");
        // An environment means something with its app alone.
        let env = app.as_ref().and_then(|_| text("environment"));
        Filter { app, env, below: query.text("below").and_then(|below| below.parse().ok()) }
    }

    pub(super) fn of_app(app: &str) -> Filter {
        Filter { app: Some(app.to_owned()), ..Filter::default() }
    }

    pub(super) fn means(&self, app: &str, env: &str) -> bool {
        self.app.as_ref().is_none_or(|own| own == app) && self.env.as_ref().is_none_or(|own| own == env)
    }

    fn which(&self) -> Which {
        Which { app: self.app.clone(), env: self.env.clone(), below: self.below, limit: ROWS, ..Which::default() }
    }

    /// As it stands behind a question mark.
    pub(super) fn query(&self, below: Option<i64>) -> String {
        let mut pairs = Vec::new();
        pairs.extend(self.app.iter().map(|app| format!("app={}", segment(app))));
        pairs.extend(self.env.iter().map(|env| format!("environment={}", segment(env))));
        pairs.extend(below.map(|below| format!("below={below}")));
        if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
    }
}

/// The newest runs.
pub(super) async fn runs(asking: &Asking<'_>, query: &Query) -> Result<Response, Refusal> {
    let filter = Filter::read(query);
    let rows = rows(asking.pipelines, &filter, asking.hide()).await?;
    let mut html = asking.html();
    html.raw("<h1>Runs");
    for text in filter.app.iter().chain(&filter.env) {
        html.raw(" · ").text(text);
    }
    html.raw("</h1>").add(&super::run::whole(&[rows], asking.hide()));
    let live = filter.below.is_none().then(|| format!("/r/events{}", filter.query(None)));
    Ok(asking.page("Runs", live, &html))
}

/// The newest runs, as the one part of a page that changes.
pub(super) async fn rows(pipelines: &Pipelines, filter: &Filter, hide: &Hide) -> Result<Part, Refusal> {
    let (rows, now) = (pipelines.list(filter.which()).await?, pipelines.now());
    let mut html = Html::new(hide);
    if rows.is_empty() {
        html.raw("<p class=\"quiet\">No run yet.</p>");
        return Ok(Part { id: "rows".to_owned(), folds: None, html });
    }
    html.raw("<table><thead><tr><th>Run<th>What<th>Where<th>State<th>Who<th class=\"wide\">When<th class=\"wide\">Took</tr></thead><tbody>");
    for (_, run) in &rows {
        html.raw("<tr><td><a href=\"/r/")
            .number(run.number)
            .raw("\">")
            .number(run.number)
            .raw("</a><td>")
            .text(run.shown());
        html.raw("<td><a href=\"/a/")
            .segment(&run.app)
            .raw("/")
            .segment(&run.env)
            .raw("\">")
            .text(run.place())
            .raw("</a><td>");
        state(&mut html, run.state.name(), run.state.plain());
        if let Some(failed) = &run.failed {
            html.raw(" ").text(failed);
        }
        html.raw("<td>")
            .text(run.asker.called())
            .raw("<td class=\"wide\"><time data-at=\"")
            .number(run.created)
            .raw("\">");
        html.text(words::moment(run.created, now)).raw("</time><td class=\"wide\">");
        if let (Some(from), Some(to)) = (run.started, run.finished) {
            html.text(words::span(to - from));
        }
        html.raw("</tr>");
    }
    html.raw("</tbody></table>");
    if let Some((_, last)) = rows.last().filter(|_| rows.len() == ROWS as usize) {
        html.raw("<p><a href=\"/r").text(filter.query(Some(last.number))).raw("\">Older</a></p>");
    }
    Ok(Part { id: "rows".to_owned(), folds: None, html })
}

/// What is where, of each app.
pub(super) async fn apps(asking: &Asking<'_>) -> Result<Response, Refusal> {
    let mut html = asking.html();
    html.raw("<h1>Apps</h1>");
    let (catalog, now) = (asking.pipelines.catalog(), asking.pipelines.now());
    if catalog.is_empty() {
        html.raw("<p class=\"quiet\">There is no pipeline; one file in config/pipelines/ makes one.</p>");
    }
    for pipeline in catalog.all() {
        let app = &pipeline.app;
        html.raw("<h2><a href=\"/a/").segment(app).raw("\">").text(app).raw("</a></h2><p class=\"quiet\">");
        html.text(&pipeline.description).raw("</p><table><tbody>");
        for (env, live, locked, running) in asking.pipelines.places(app).await? {
            html.raw("<tr><td><a href=\"/a/").segment(app).raw("/").segment(&env).raw("\">").text(&env).raw("</a><td>");
            match &live {
                Some((row, run)) => {
                    let version = if row.version.is_empty() { &row.sha } else { &row.version };
                    html.text(version).raw(" <span class=\"quiet\">by ").text(&run.requester).raw(" ");
                    html.text(words::moment(row.at, now)).raw(", <a href=\"/r/").number(row.run).raw("\">run ");
                    html.number(row.run).raw("</a></span>");
                }
                None => {
                    html.raw("<span class=\"quiet\">nothing yet</span>");
                }
            }
            html.raw("<td>");
            if locked {
                html.raw("<span class=\"state pending\">locked</span> ");
            }
            if let Some((number, version)) = running {
                html.raw("<a href=\"/r/").number(number).raw("\">").text(version).raw(" goes out</a>");
            }
            html.raw("</tr>");
        }
        html.raw("</tbody></table>");
    }
    Ok(asking.page("Apps", None, &html))
}

/// What went where of an app.
pub(super) async fn deployments(
    asking: &Asking<'_>,
    app: &str,
    env: Option<&str>,
    query: &Query,
) -> Result<Response, Refusal> {
    // What is in no file any more has its records still.
    let pipeline = asking.pipelines.catalog().get(app);
    let below = query.text("below").and_then(|below| below.parse().ok());
    let which =
        Which { app: Some(app.to_owned()), env: env.map(str::to_owned), below, limit: ROWS, ..Which::default() };
    let (rows, now) = (asking.pipelines.deployments(which).await?, asking.pipelines.now());
    if let (true, Err(refusal)) = (rows.is_empty(), pipeline) {
        return Err(refusal);
    }
    let mut html = asking.html();
    html.raw("<h1>").text(app);
    if let Some(env) = env {
        html.raw(" → ").text(env);
    }
    html.raw("</h1><p><a href=\"/deploy/")
        .segment(app)
        .raw("\">Deploy</a> · <a href=\"/r")
        .text(Filter { env: env.map(str::to_owned), ..Filter::of_app(app) }.query(None));
    html.raw("\">All runs</a></p>");
    if rows.is_empty() {
        html.raw("<p class=\"quiet\">Nothing went there yet.</p>");
    } else {
        html.raw("<table><thead><tr><th>Run<th>Where<th>What<th class=\"wide\">Instead of<th>State<th>Who<th class=\"wide\">When</tr></thead><tbody>");
    }
    for row in &rows {
        let version = if row.version.is_empty() { &row.sha } else { &row.version };
        html.raw("<tr><td><a href=\"/r/")
            .number(row.run)
            .raw("\">")
            .number(row.run)
            .raw("</a><td>")
            .text(&row.environment);
        html.raw("<td>")
            .text(version)
            .raw("<td class=\"wide\">")
            .text(row.previous_version.as_deref().unwrap_or_default())
            .raw("<td>");
        state(&mut html, row.state.name(), row.result);
        if row.validated == Some(false) {
            html.raw(" <span class=\"state failed\">faulty</span>");
        }
        html.raw("<td>").text(&row.who).raw("<td class=\"wide\">");
        if let Some(at) = row.live.or(row.began) {
            html.raw("<time data-at=\"").number(at).raw("\">").text(words::moment(at, now)).raw("</time>");
        }
        html.raw("</tr>");
    }
    html.raw(if rows.is_empty() { "" } else { "</tbody></table>" });
    if let Some(last) = rows.last().filter(|_| rows.len() == ROWS as usize) {
        html.raw("<p><a href=\"?below=").number(last.run).raw("\">Older</a></p>");
    }
    Ok(asking.page(app, None, &html))
}

/// A line of the incident log, and what amends it.
pub(super) async fn incident(asking: &Asking<'_>, id: &str) -> Result<Response, Refusal> {
    let unknown = || Refusal::unknown(format!("there is no {id} in the incident log"));
    let id = id.strip_prefix("L-").and_then(|id| id.parse::<i64>().ok()).ok_or_else(unknown)?;
    let (records, now) = (asking.pipelines.records(), asking.pipelines.now());
    let row = records.incident(id).await?.ok_or_else(unknown)?;
    let later = records.incidents(Some(&row.app), row.at, INCIDENTS).await?;
    let mut html = asking.html();
    html.raw("<h1>L-").number(id).raw("</h1>");
    let amends = later.iter().rev().filter(|one| one.amends == Some(id));
    for one in std::iter::once(&row).chain(amends) {
        html.raw("<article><p>")
            .text(&one.text)
            .raw("</p><p class=\"quiet\">L-")
            .number(one.id)
            .raw(" by ")
            .text(&one.handle);
        html.raw(" at <time data-at=\"")
            .number(one.at)
            .raw("\">")
            .text(words::moment(one.at, now))
            .raw("</time>, <a href=\"/a/");
        html.segment(&one.app).raw("\">").text(&one.app).raw("</a> ").text(&one.env);
        if let Some(run) = one.run {
            html.raw(", <a href=\"/r/").number(run).raw("\">run ").number(run).raw("</a>");
        }
        html.raw("</p></article>");
    }
    Ok(asking.page("Incident log", None, &html))
}
