//! What is said of what was given: words and parameters, tokens, checks, amounts. A line a sentence.

use std::fmt::{Debug, Display};

use super::sentences::sentences;

sentences! {
    // Of words and parameters.
    how_to_deploy() = "write !deploy APP[/REF] [to ENVIRONMENT] [name=value] [--skip STAGE]";
    names_a_stage(option: Display) = "{option} wants the name of a stage";
    not_understood(rest: Debug, usage: Display) = "I do not understand {rest:?}; {usage}";
    is_a_text(param: Display) = "{param} is a text";
    is_one_of(param: Display, of: Display, text: Debug) = "{param} is one of {of}, not {text:?}";
    looks_like(param: Display, form: Display, text: Debug) = "{param} has to look like {form}, not like {text:?}";
    one_line() = "one line of text";
    no_reference(text: Debug) = "{text:?} is no branch, tag or commit";
    is_true_or_false(param: Display) = "{param} is true or false";
    is_a_whole_number(param: Display) = "{param} is a whole number";
    is_a_number(param: Display) = "{param} is a number";
    params_are(names: Display) = "there are {names}";
    may_mean(close: Display) = "did you mean {close}?";
    no_parameter(name: Debug, hint: Display) = "there is no parameter {name:?}; {hint}";
    is_missing(param: Display) = "{param} is missing; give it as {param}=VALUE";
    said_aloud(param: Display) = "{param} is secret, and this was read by others: change it, and give it over HTTP, on a page or from a shell";
    not_kept_for_later(param: Display) = "{param} is secret and not kept for later; ask when it is time";
    given_is_gone(param: Display) = "what {param} was is kept until a run has ended, and no longer; ask anew with it";
    given_as_argument(param: Display) = "{param} is secret, and arguments of commands are seen by all; hand it over as env: {{NAME: \"{{params.{param}}}\"}}";
    nothing_to_leave_out(app: Display, name: Display) = "{app} has neither a parameter {name} nor a stage of that kind, so there is nothing to leave out";
    for_how_long() = "say for how long: {{\"place\": \"shop/prod\", \"for\": \"1h\"}}";
    name_the_run() = "name the run: {{\"run\": 118}}";
    // Of flags and tokens.
    flag_on(flag: Display, here: Display) = "{flag} on {here}";
    nothing_here() = "there is nothing here";
    show_a_token() = "show a token of gateway.tokens as Authorization: Bearer";
    called_like_a_person(token: Display) = "the token {token} is called like a person; say whose it is with `handle`, or rename it";
    whose_is_gone(token: Display, handle: Display) = "the token {token} is {handle}'s, who is not known any more; add them, or take the token out of gateway.tokens";
    speaks_for_another(run: Display) = "this token speaks for run {run} only";
    // Of checks, and of what stages ask for.
    check_fell_over() = "it fell over; its fault is in the bot's log";
    check_is_slow(seconds: Display) = "there was no answer within {seconds} s";
    check_was_stopped() = "it was stopped";
    too_many_slots(wanted: Display, pool: Display, size: Display) = "it asks for {wanted} slots of {pool}, which has {size}; lower `slots`, or raise pipelines.pools";
    too_much(name: Display, wanted: Display, size: Display) = "it asks for more {name} than pipelines.{name} allows in all ({wanted} of {size})";
    same_name_twice(twice: Display) = "two of its combinations would be called [{twice}]; write each value once";
    // Of records.
    this_process(version: Display, id: Display) = "masterchief {version}, process {id}";
    records_are_away(fault: Display) = "the records cannot be read now; look at the log of the bot: {fault}";
    not_in_the_records() = "it is not in the records";
    file_is_gone(path: Display) = "{path} is not there any more: a later attempt, or somebody, took its place";
}
