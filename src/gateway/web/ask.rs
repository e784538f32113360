//! The form that asks for a run: choices, then the plan, then the start of exactly that plan.
//!
//! It goes to the engine as from a channel: the same rules say who may what, who has to say yes and who has to agree. Unlike a program,
//! somebody is there to say yes, so nobody is spared being asked.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use warp::http::StatusCode;
use warp::reply::Response;

use super::Asking;
use super::html::{Html, segment};
use super::names::looks_secret;
use super::session::Visitor;
use crate::executors::unguessable;
use crate::gateway::hooks::{Reply, reply};
use crate::gateway::runs::{plainly, refused, wrong};
use crate::pipelines::{
    Ask, Asked, DeployWords, May, Param, Pipeline, Pipelines, Prepared, Preview, Refusal, Skip, Stage, Takes,
};

/// Why a program's token cannot start here what it could over HTTP.
const NOBODY: &str = "who asks has to say yes to it, and no person stands behind this token: log in with a token that has a `handle`, or use POST /pipelines/trigger";
/// The longest key that makes a start and its repetition one.
const KEY_MAX: usize = 64;

/// What the form says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    environment: Option<String>,
    #[serde(rename = "ref", default)]
    reference: String,
    /// As they were typed.
    #[serde(default)]
    params: BTreeMap<String, String>,
    #[serde(default)]
    skip: Vec<String>,
    /// The plan that was shown.
    #[serde(default)]
    code: String,
    #[serde(default)]
    key: String,
}

/// Where somebody may deploy an app to.
fn places<'p>(pipeline: &'p Pipeline, may: &'p May) -> impl Iterator<Item = &'p str> {
    let all = pipeline.policy.environments.iter();
    all.filter(|(_, rules)| may.has(rules.flags.as_ref())).map(|(env, _)| env.as_str())
}

/// Which app?
pub(super) fn choose(asking: &Asking<'_>) -> Response {
    let (mut html, may) = (asking.html(), &asking.visitor.caller.may);
    html.raw("<h1>Deploy</h1><ul>");
    let mut any = false;
    for pipeline in asking.pipelines.catalog().all() {
        let places: Vec<&str> = places(pipeline, may).collect();
        if !places.is_empty() {
            any = true;
            html.raw("<li><a href=\"/deploy/")
                .segment(&pipeline.app)
                .raw("\">")
                .text(&pipeline.app)
                .raw("</a> <span class=\"quiet\">to ");
            html.text(places.join(", ")).raw("</span></li>");
        }
    }
    html.raw("</ul>");
    if !any {
        html.raw("<p class=\"quiet\">There is nothing that you may deploy.</p>");
    }
    asking.page("Deploy", None, &html)
}

/// What may be chosen.
pub(super) fn form(asking: &Asking<'_>, app: &str) -> Result<Response, Refusal> {
    let (pipeline, may) = (asking.pipelines.catalog().get(app)?, &asking.visitor.caller.may);
    let places: Vec<&str> = places(&pipeline, may).collect();
    if places.is_empty() {
        return Err(Refusal::denied(format!("you may not deploy {app} anywhere")));
    }
    let mut html = asking.html();
    html.raw("<h1>Deploy ").text(app).raw("</h1><p class=\"quiet\">").text(&pipeline.description).raw("</p>");
    html.raw("<noscript><p class=\"bad\">This page needs its script; !deploy in a channel and POST /pipelines/trigger do not.</p></noscript>");
    html.raw("<form id=\"ask\" autocomplete=\"off\" data-plan=\"/deploy/")
        .segment(app)
        .raw("/plan\" data-start=\"/deploy/")
        .segment(app)
        .raw("\">");
    let usual = default(&pipeline, "environment");
    html.raw("<label>Environment <select name=\"environment\">");
    for place in places {
        option(&mut html, place, usual.as_deref() == Some(place));
    }
    html.raw("</select></label>");
    if pipeline.repo.is_some() || pipeline.params.iter().any(|param| param.name == "ref") {
        html.raw("<label>Branch, tag or commit <input name=\"ref\" maxlength=\"200\" placeholder=\"");
        html.text(default(&pipeline, "ref").unwrap_or_default()).raw("\"></label>");
    }
    let own = |param: &&Param| param.name != "environment" && param.name != "ref";
    for param in pipeline.params.iter().filter(own) {
        field(&mut html, param, may);
    }
    leave_out(&mut html, &pipeline, may);
    html.raw("<button>Show the plan</button></form><div id=\"plan\" aria-live=\"polite\"></div>");
    html.raw("<button id=\"start\" type=\"button\" disabled>Start</button><h2>Runs</h2><div id=\"parts\"></div>");
    let live = format!("/r/events?app={}", segment(app));
    Ok(asking.page(&format!("Deploy {app}"), Some(live), &html))
}

fn default(pipeline: &Pipeline, name: &str) -> Option<String> {
    let param = pipeline.params.iter().find(|param| param.name == name)?;
    param.default.as_ref()?.as_str().map(str::to_owned)
}

fn option(html: &mut Html, value: &str, chosen: bool) {
    html.raw("<option value=\"")
        .text(value)
        .raw(if chosen { "\" selected>" } else { "\">" })
        .text(value)
        .raw("</option>");
}

/// One parameter, by what it takes.
fn field(html: &mut Html, param: &Param, may: &May) {
    let usual = param.default.as_ref().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let usual = usual.unwrap_or_default();
    let barred = if may.has(param.needs_flag.as_ref()) { "" } else { " disabled" };
    html.raw("<label>").text(&param.name).raw(" ");
    let begin = |html: &mut Html, tag: &'static str| {
        html.raw(tag).raw(" name=\"param:").text(&param.name).raw("\"").raw(barred);
    };
    match &param.takes {
        Takes::Choice(of) => {
            begin(html, "<select");
            html.raw(">");
            if param.default.is_none() {
                html.raw("<option value=\"\"></option>");
            }
            for one in of {
                option(html, one, *one == usual);
            }
            html.raw("</select></label>");
            return;
        }
        Takes::Bool => {
            begin(html, "<input type=\"checkbox\"");
            html.raw(if param.default == Some(Value::Bool(true)) { " checked></label>" } else { "></label>" });
            return;
        }
        Takes::Int => begin(html, "<input type=\"number\" step=\"1\""),
        Takes::Number => begin(html, "<input type=\"number\" step=\"any\""),
        Takes::Text(_) if param.secret || looks_secret(&param.name) => {
            begin(html, "<input type=\"password\" autocomplete=\"new-password\"");
        }
        Takes::Text(_) | Takes::Ref => begin(html, "<input type=\"text\""),
    }
    if !param.optional && param.default.is_none() {
        html.raw(" required");
    }
    if let Takes::Text(Some(form)) = &param.takes {
        html.raw(" title=\"").text(form).raw("\"");
    }
    let usual = if looks_secret(&param.name) && !usual.is_empty() { "***" } else { &usual };
    html.raw(" placeholder=\"").text(usual).raw("\"></label>");
}

/// The stages that somebody may leave out.
fn leave_out(html: &mut Html, pipeline: &Pipeline, may: &May) {
    let may_skip =
        |stage: &&Stage| !stage.finally && matches!(&stage.skip, Skip::Flags(flags) if may.has(flags.as_ref()));
    let stages: Vec<&Stage> = pipeline.stages.iter().filter(may_skip).collect();
    if stages.is_empty() {
        return;
    }
    html.raw("<fieldset><legend>Leave out</legend>");
    for stage in stages {
        html.raw("<label><input type=\"checkbox\" name=\"skip\" value=\"")
            .text(&stage.name)
            .raw("\"> ")
            .text(&stage.name)
            .raw("</label>");
    }
    html.raw("</fieldset>");
}

/// What is wanted, with what the repository and others say to it.
async fn prepared(pipelines: &Pipelines, visitor: &Visitor, app: &str, wanted: Wanted) -> Result<Prepared, Refusal> {
    let words = DeployWords {
        app: app.to_owned(),
        environment: wanted.environment,
        reference: Some(wanted.reference).filter(|reference| !reference.is_empty()),
        params: wanted.params.into_iter().collect(),
        skip: wanted.skip,
        ..DeployWords::default()
    };
    let caller = &visitor.caller;
    pipelines.prepare(words, Map::new(), (&caller.who, &caller.may)).await
}

/// What would happen: shown before the button does anything.
pub(super) async fn plan(asking: &Asking<'_>, app: &str, body: &[u8]) -> Reply {
    let Ok(_turn) = asking.shared.web.plans.try_acquire() else {
        return refused(Refusal::busy("too many plans are being worked out; try again in a minute"));
    };
    let wanted: Wanted = match serde_json::from_slice(body) {
        Ok(wanted) => wanted,
        Err(fault) => return wrong(fault),
    };
    let (pipelines, visitor) = (asking.pipelines, asking.visitor);
    let preview = async {
        let prepared = prepared(pipelines, visitor, app, wanted).await?;
        pipelines.preview(prepared, visitor.caller.who.clone(), visitor.caller.may.clone()).await
    };
    let preview = match preview.await {
        Ok(preview) => preview,
        Err(refusal) => return refused(refusal),
    };
    let Ok(key) = unguessable() else { return refused(Refusal::busy("no number can be made that nobody guesses")) };
    // Without the code nothing can be started.
    let code = (!preview.confirm || visitor.caller.may.vouched).then_some(&preview.code);
    let line = plainly([super::html::shown(asking.hide(), &preview.line)]).concat();
    let shown = json!({"code": code, "key": key, "line": line, "environment": preview.run.env, "confirm": preview.confirm,
        "approvals": preview.approvals, "html": drawn(asking, &preview).into_string()});
    reply(StatusCode::OK, &shown)
}

fn drawn(asking: &Asking<'_>, preview: &Preview) -> Html {
    let (mut html, pipeline) = (asking.html(), &preview.pipeline);
    html.raw("<p>").text(&preview.line).raw("</p><ol>");
    for stage in &pipeline.stages {
        let does: Vec<&str> = stage.actions.iter().map(|action| action.executor.as_str()).collect();
        html.raw("<li><span class=\"name\">").text(&stage.name).raw("</span> ").text(does.join(", "));
        let needs = stage.needs.iter().filter_map(|need| pipeline.stages.get(need.stage));
        let needs: Vec<&str> = needs.map(|stage| stage.name.as_str()).collect();
        html.raw(" <span class=\"quiet\">");
        if !needs.is_empty() {
            html.raw("after ").text(needs.join(", ")).raw(" ");
        }
        if let Some(when) = &stage.when {
            html.raw("when ").text(when.text()).raw(" ");
        }
        if stage.skip == Skip::Never {
            html.raw("people or the clock decide ");
        }
        html.raw(if stage.finally { "in any case</span>" } else { "</span>" });
        if preview.run.skipped.contains(&stage.name) {
            html.raw(" <span class=\"state skipped\">left out</span>");
        }
        html.raw("</li>");
    }
    html.raw("</ol>");
    if preview.confirm {
        html.raw("<p><strong>").text(match asking.visitor.caller.may.vouched {
            true => "After the start you have to say yes to it once more, on its page.",
            false => NOBODY,
        });
        html.raw("</strong></p>");
    }
    if let Some(approvals) = &preview.approvals {
        html.raw("<p><strong>It needs ").text(approvals).raw(" before it begins.</strong></p>");
    }
    if let Some(lock) = &preview.lock {
        html.raw("<p><strong>").text(lock).raw("</strong></p>");
    }
    if !preview.ahead.is_empty() {
        let ahead: Vec<String> = preview.ahead.iter().map(i64::to_string).collect();
        html.raw("<p>These go before it: ").text(ahead.join(", ")).raw("</p>");
    }
    html
}

/// Starts the plan that was shown, and no other.
pub(super) async fn start(pipelines: &Pipelines, visitor: Visitor, app: &str, body: &[u8]) -> Reply {
    let wanted: Wanted = match serde_json::from_slice(body) {
        Ok(wanted) => wanted,
        Err(fault) => return wrong(fault),
    };
    if wanted.code.is_empty() || wanted.key.is_empty() || wanted.key.len() > KEY_MAX {
        return wrong("look at the plan first");
    }
    let (code, key) = (wanted.code.clone(), format!("page {}", wanted.key));
    let answer = async {
        let prepared = prepared(pipelines, &visitor, app, wanted).await?;
        let prepared = Prepared { shown: Some(code), key: Some(key), ..prepared };
        let (who, may) = (visitor.caller.who, visitor.caller.may);
        if !may.vouched && asks_for_a_yes(pipelines, &prepared) {
            return Err(Refusal::denied(NOBODY));
        }
        pipelines.ask(Asked { ask: Ask::Deploy(Box::new(prepared)), who, may }).await
    };
    match answer.await {
        Ok(told) => {
            let page = told.run.map(|run| format!("/r/{run}"));
            reply(StatusCode::ACCEPTED, &json!({"id": told.run, "page": page, "lines": plainly(told.lines)}))
        }
        Err(refusal) => refused(refusal),
    }
}

/// Whether who asks has to say yes there. Where it is not told where, somebody may have to.
fn asks_for_a_yes(pipelines: &Pipelines, prepared: &Prepared) -> bool {
    let Ok(pipeline) = pipelines.catalog().get(&prepared.app) else { return true };
    let env = prepared.environment.as_deref().and_then(|env| pipeline.rules(env));
    env.is_none_or(|rules| rules.confirm)
}
