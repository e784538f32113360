//! The page about words, `docs/verbs.md`: which word is to be had which way, and who may say it. Made from the words themselves; a
//! test holds the two together, and a story says each of them each way.

use super::{Verb, WORDS};

/// The shorter ways there are beside the ones that all words have: the word, over HTTP, in a script.
pub const SHORT: &[(&str, &str, &str)] = &[
    ("!deploy", "POST trigger", "pipeline.run start"),
    ("!yes", "POST RUN/yes", "pipeline.yes"),
    ("!abort", "POST RUN/abort", "pipeline.abort"),
    ("!retry", "POST RUN/retry", "pipeline.retry"),
    ("!rollback", "POST RUN/rollback rollback", "pipeline.rollback"),
    ("!approve", "POST RUN/approve", "pipeline.approve"),
    ("!reject", "POST RUN/reject", "pipeline.reject"),
    ("!promote", "POST RUN/promote", "pipeline.promote"),
    ("!pause", "POST RUN/pause", "pipeline.pause"),
    ("!resume", "POST RUN/resume", "pipeline.resume"),
    ("!skip!", "POST RUN/skip", "pipeline.pass"),
    ("!lock", "POST lock extend", "pipeline.lock"),
    ("!unlock", "POST unlock", "pipeline.unlock"),
    ("!unlock!", "POST unlock", "pipeline.unlock"),
    ("!queue", "POST RUN/queue, GET queue", "pipeline.queue"),
    ("!again", "POST RUN/again", "pipeline.again"),
    ("!freeze", "POST freeze", ""),
    ("!thaw", "POST thaw", ""),
    ("!log", "POST incidents", ""),
    ("!who", "GET who", ""),
    ("!deploys", "GET deployments", ""),
    ("!run", "GET RUN RUN/summary", "pipeline.status"),
    ("!diff", "GET RUN", ""),
    ("!sal", "GET incidents", ""),
    ("!dora", "GET dora", ""),
    ("!predict", "GET predict", ""),
];

/// Who may.
fn needs(word: &str, verb: Verb) -> &'static str {
    match verb {
        Verb::Yes => "who asked, logged in as then",
        Verb::Approve | Verb::Reject => "whom the rule names, logged in, and not who asked",
        Verb::Abort => "who asked; the flags of the environment",
        Verb::Unlock => "whose lock it is",
        Verb::Queue => "who asked; looking as `!who`",
        Verb::Pass => "the flags of the environment, and those of the stage",
        Verb::Unbook => "who booked; the flags of the environment",
        Verb::Look if word == "!tail" => "who asked; the flags of the environment",
        Verb::Look => "where the app is told, everybody; elsewhere the flags of one of its environments",
        _ => "the flags of the environment",
    }
}

/// The page.
pub fn page() -> String {
    let mut out = "# Words for pipelines\n\n\
<!-- Made from the code: `masterchief pipelines words --markdown > docs/verbs.md` writes it anew. -->\n\n\
Every word is to be had every way, by the same engine and the same rules: in a channel or in private (`!abort 118`), from a shell\n\
(`masterchief runs abort 118`), over HTTP (`POST /pipelines/words/abort` with `{\"text\": \"118\"}`; `GET /pipelines/words/who?text=shop` where it only looks), in a\n\
script (`pipeline.word(\"abort\", \"118\")`, for pipelines of its `bot.caps`), and in Rust (`Pipelines::word`, `Pipelines::ask`). Some have shorter\n\
ways beside it; paths over HTTP begin with `/pipelines/`.\n\n\
| word | does | over HTTP also | in a script also | who may |\n| --- | --- | --- | --- | --- |\n"
        .to_owned();
    for (word, usage, does, verb) in WORDS {
        let (http, lua) = SHORT.iter().find(|row| row.0 == *word).map_or(("", ""), |(_, http, lua)| (*http, *lua));
        let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
        let usage = format!("{word} {usage}").trim().replace('|', "\\|");
        out.push_str(&format!("| `{usage}` | {does} | {} | {} | {} |\n", code(http), code(lua), needs(word, *verb)));
    }
    out.push_str(
        "\nA person is who services, a certificate or a login vouch for. A token may what its flags allow; one with a `handle` is that person, may no\n\
more than they may, and only such a one says yes, approves or rejects. A token without flags looks, and no more. A script may what the person behind its event\n\
may; where nobody is, what the `flags` of its `bot.caps` allow, and it says neither yes nor no to anything.\n\n\
Where the rules say `confirm: always`, who asked is shown the plan first and says yes to it, wherever somebody is there to be asked: in a channel and in\n\
private with `!yes`, in a shell at the prompt (or `--yes` beforehand), on a page with a button, over HTTP with a token that has a `handle` (202 with `state:\n\
awaiting_confirm`, the plan in `lines` and in `yes` where to post the yes). Nobody is asked where nobody is: a token without a `handle`, a trigger, a\n\
booking whose time has come, and a script, which says by itself what it wants. Whom that is not enough for writes `approvals` at the environment: they hold for all ways\n\
alike.\n",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_words_say() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/verbs.md");
        assert!(
            std::fs::read_to_string(&path).is_ok_and(|text| text == page()),
            "docs/verbs.md is not what the words say: write it anew with `masterchief pipelines words --markdown > docs/verbs.md`"
        );
        for (word, ..) in SHORT {
            assert!(WORDS.iter().any(|(known, ..)| known == word), "{word} is no word");
        }
    }
}
