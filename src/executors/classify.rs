//! What kind of failure the words of a command tell of, and which of its lines says it: the first real error, not the last line.

use std::sync::LazyLock;

use regex::Regex;
use regex::bytes::{RegexSet, RegexSetBuilder};

use super::class::{Class, Failure};

/// So many lines are looked at: half of them from the beginning, half from the end.
const LINES_MAX: usize = 20_000;
/// So many bytes of a line are looked at.
const LOOKED_AT: usize = 2_000;
/// The longest line that is given, in characters.
const LINE_MAX: usize = 200;

/// What a line may say, the most decisive first: of two lines the one whose sign stands higher is taken, of two with the same sign
/// the first. Case matters unless a sign says `(?i)`.
const SIGNS: &[(Class, &str)] = &[
    // What takes the machine itself away explains every error that follows.
    (
        Class::Oom,
        r"JavaScript heap out of memory|java\.lang\.OutOfMemoryError|std::bad_alloc|\bMemoryError\b|OOMKilled|Out of memory: Kill|runtime: out of memory|(?i:cannot allocate memory)|memory allocation of \d+ bytes failed|Killed signal terminated program|oom-kill|GC overhead limit exceeded",
    ),
    (Class::Oom, r"^Killed$|: +\d+ Killed\b"),
    (
        Class::DiskFull,
        r"(?i)no space left on device|\bENOSPC\b|disk quota exceeded|not enough (free )?(disk )?space|disk is full|database or disk is full|You don't have enough free space",
    ),
    (
        Class::StateLock,
        r"Error acquiring the state lock|Error locking state|state is (already )?locked|another operation \(install/upgrade/rollback\) is in progress|the stack is currently locked",
    ),
    (
        Class::Quota,
        r"(?i)toomanyrequests|429 too many requests|\bHTTP/?[\d.]* 429\b|status(?: code)?:? 429|rate limit(?:ed)? (?:exceeded|reached)|rate.?limit.*(?:exceeded|reached|hit)|reached your pull rate limit|ThrottlingException|Throttling: |Rate exceeded|RequestLimitExceeded|LimitExceeded(?:Exception)?\b|exceeded quota|quota (?:has been )?exceeded|insufficient quota|RESOURCE_EXHAUSTED|You have exceeded a secondary",
    ),
    (
        Class::Cancelled,
        r"^Aborted by \S|The operation was cancel+ed|^(?:Build|Run|Job) was (?:aborted|cancel+ed)|Interrupted by user|^KeyboardInterrupt$",
    ),
    (
        Class::InfraLost,
        r"ChannelClosedException|(?i:(?:runner|agent|node|slave) .{0,60}(?:lost communication|went offline|was lost|is offline|disconnected))|The node was low on resource|\bEvicted\b|pod .* was (?:deleted|preempted)|Remote call on .* failed|spot instance .*(?:terminated|interrupt)|node\(s\) had taint|NodeNotReady",
    ),
    // Counted failures that no rerun made good.
    (Class::TestFailed, r"^\s*[1-9]\d* failed$|FAILED \(failures=[1-9]"),
    (
        Class::FlakyTest,
        r"(?i)passed (?:on|after|in) (?:a )?(?:re-?run|retry)|re-?run passed|marked (?:as )?flaky|known flak[ey]|\bflaky test|\[flaky\]|^\s*[1-9]\d* flaky\b|Flakes: [1-9]|^FLAKY\b|\): FLAKY|FLAKY, failed in",
    ),
    // What does not compile.
    (
        Class::Compile,
        r"^error\[E\d{4}\]|\berror TS\d+:|\berror CS\d+:|^[^\s:]+\.(?:c|cc|cpp|cxx|h|hpp|rs|swift|m):\d+:(?:\d+:)? (?:fatal )?error:|\.java:\[\d+,\d+\]|\.(?:java|scala|groovy):\d+: error:|^e: .*\.kts?:|^[^\s:]+\.go:\d+:\d+: (?:undefined|cannot use|syntax error|declared and not used|.*(?:imported and not used|declared but not used|missing return|not enough arguments|too many arguments|undefined|mismatched types|does not implement))|Module not found: Error:|undefined reference to|error\[internal\]|error: (?:expected|cannot find|linking with|unresolved import|mismatched|this file contains|no method|unused|unexpected token)|\bSyntaxError: |IndentationError: |Parse error: syntax error",
    ),
    // Tests, with their names first.
    (
        Class::TestFailed,
        r"^FAILED \S+::\S+|^ERROR \S+::\S+|^\s*--- FAIL: |^test .+ \.\.\. FAILED|^●.* › |^\s*✕ |\[ERROR\]\s+(?:Failures: *$|\S+Test\S*[.:])|^\[  FAILED  \] \w|^not ok \d+|^FAIL(?:ED)?:? +(?:test_\w+|Test\w+)|^\S+ > .+ FAILED$|<<< (?:FAILURE|ERROR)!",
    ),
    (
        Class::TestFailed,
        r"^E {3,}\w|\bAssertionError\b|AssertionFailedError|ComparisonFailure|assertion .*failed|^FAIL\s+\S+\.(?:test|spec)\.\w+|test result: FAILED|There (?:are test failures|were failing tests)|Tests run: .*(?:Failures|Errors): [1-9]|^=+ .*\b[1-9]\d* (?:failed|errors?)\b.*=+$|^Tests: +[1-9]\d* failed|^FAIL\t\S+|[1-9]\d* (?:tests?|examples?|specs?)(?:,| \w+,)? .*\b[1-9]\d* (?:failed|failures?)\b|Timeout of \d+ms exceeded|Exceeded timeout of \d+ ms for a test",
    ),
    // What was rolled out; before connections, which its probes complain about.
    (
        Class::AppNotReady,
        r"CrashLoopBackOff|ImagePullBackOff|ErrImagePull|InvalidImageName|CreateContainerConfigError|exceeded its progress deadline|progress deadline exceeded|(?:Readiness|Liveness|Startup) probe failed|timed out waiting for the condition|UPGRADE FAILED: .*timed out|health ?check (?:failed|never passed)|(?i:container .* is unhealthy)",
    ),
    // Who was refused. Before connections: `Failed to connect via ssh: Permission denied`.
    (
        Class::Auth,
        r"(?i)permission denied \((?:publickey|password|keyboard)|authentication (?:failed|required)|could not read (?:username|password)|invalid (?:username or password|credentials|api key|token)|401 unauthorized|unauthorized: |\b(?:status|code|error):? ?40[13]\b|HTTP (?:Error )?40[13]\b|returned error: 40[13]|403 forbidden|error from server \((?:forbidden|unauthorized)\)|You must be logged in to the server|ExpiredToken|InvalidClientTokenId|SignatureDoesNotMatch|security token included in the request is (?:invalid|expired)|UnauthorizedOperation|AccessDenied|access denied|NoCredentialProviders|no valid credential|Unable to locate credentials|requested access to the resource is denied|no basic auth credentials|npm (?:ERR!|error) code E40[13]|remote: (?:Permission to .* denied|HTTP Basic: Access denied|Invalid username)|Host key verification failed|bad credentials|PERMISSION_DENIED|incorrect sudo password|a password is required|Missing sudo password",
    ),
    // Names, connections and certificates.
    (
        Class::Network,
        r"(?i)certificate (?:has expired|verify failed|is not (?:yet )?valid|signed by unknown)|x509: |CERT_HAS_EXPIRED|SSL certificate problem|SELF_SIGNED_CERT|PKIX path|unable to get local issuer",
    ),
    (
        Class::Network,
        r"(?i)could(?:n't| not) resolve (?:host|proxy|'|\S+\.)|temporary failure (?:in name resolution|resolving)|name or service not known|\bEAI_AGAIN\b|getaddrinfo|\bENOTFOUND\b|no such host|UnknownHostException|server misbehaving|nodename nor servname|NameResolutionError|failed to lookup address",
    ),
    (
        Class::Network,
        r#"(?i)\bECONNRESET\b|\bECONNREFUSED\b|\bETIMEDOUT\b|\bESOCKETTIMEDOUT\b|\bEHOSTUNREACH\b|connection (?:was )?(?:refused|reset|timed out|closed by|aborted)|connect(?: to \S+)? (?:timed out|timeout)|failed to connect to|could not connect to|couldn't connect to|unable to connect to|no route to host|network is unreachable|host is unreachable|UNREACHABLE!|TLS handshake timeout|i/o timeout|read timed out|ReadTimeoutError|operation timed out|operation too slow|SocketTimeoutException|ConnectException|connection to the server .* was refused|broken pipe|unexpected (?:EOF\W*$|disconnect)|early EOF|remote end hung up|RPC failed|socket hang up|network timeout|spurious network error|Could not transfer artifact|Client\.Timeout exceeded|kex_exchange_identification|ssh: connect to host"#,
    ),
    (
        Class::Network,
        r"(?i)50[234] (?:bad gateway|service (?:temporarily )?unavailable|gateway time-?out|server error)|returned error: 50[0-4]|status(?: code)?:? 50[234]|HTTP (?:Error )?50[234]\b|received unexpected HTTP status: 50\d",
    ),
    (
        Class::Timeout,
        r"(?i)context deadline exceeded|deadline exceeded|timed out after|timeout after|timeout exceeded|exceeded the (?:maximum )?(?:execution |time)|job execution time|time limit (?:exceeded|reached)|took too long|Timeout has been exceeded|\bTimeoutE(?:rror|xpired)\b",
    ),
    // What it was told is wrong.
    (
        Class::Config,
        r"^CONFLICT \(|Automatic merge failed|error: could not apply|[Rr]epository (?:'.*' |\S+ )?not found|couldn't find remote ref|pathspec '.*' did not match|not a git repository|non-fast-forward|manifest (?:for \S+ )?(?:unknown|not found)|pull access denied|invalid reference format|dockerfile parse error|failed to read dockerfile|No matching distribution found|Could not find a version that satisfies|npm ERR! 404|npm (?:ERR!|error) code E404|ERESOLVE|Couldn't find package|Could not find artifact|Could not resolve dependencies|no matching package named|failed to select a version|failed to parse manifest|Error from server \((?:NotFound|BadRequest|Invalid|AlreadyExists)\)|error validating|unable to recognize|Error: (?:Unsupported|Invalid|Missing|Reference to undeclared|Argument or block|Unclosed|Duplicate|Failed to read variables)|is undefined\b|undefined variable|Syntax Error while loading YAML|did not find expected|mapping values are not allowed|could not match supplied host pattern|No hosts matched|The role '.*' was not found|[Cc]ould not find the requested service|requires go >=|failed to read `|syntax error near unexpected token|unexpected EOF while looking|syntax error: unexpected end of file|cannot find module providing",
    ),
    (
        Class::Config,
        r#"(?i)command not found|: not found$|executable file not found|No such file or directory|\bENOENT\b|No rule to make target|unknown (?:flag|option|command|shorthand flag)|unrecognized (?:arguments?|option)|invalid (?:option|argument|value)|missing (?:required|env|environment)|exec format error|is not recognized as|ModuleNotFoundError|Cannot find module|ClassNotFoundException|NoClassDefFoundError|cannot open shared object|environment variable .* (?:not set|is not set|missing)|missing script:|Missing required|KeyError: '[A-Z_]+'|Task '.*' not found in|Unknown lifecycle phase"#,
    ),
    (Class::Auth, r"(?i)\bEACCES\b|\bEPERM\b|permission denied|operation not permitted"),
    (
        Class::Compile,
        r"^\[?ERROR\]? ?:? ?COMPILATION ERROR|COMPILATION ERROR|could not compile `|Compilation failed|:compile\w*' ?\.?$|\[build failed\]|Failed to compile",
    ),
    // A crash says little, but more than what is said about it afterwards.
    (
        Class::Unknown,
        r"(?i)segmentation fault|\bSIGSEGV\b|core dumped|\bSIGABRT\b|\bSIGILL\b|double free|stack overflow",
    ),
    (Class::Unknown, r"^panic: |panicked at |^fatal error: |^Unhandled exception|^Uncaught "),
    (
        Class::Unknown,
        r"^(?:fatal|FATAL|CRITICAL)\b|FAILED! =>|^(?:[\w.]+\.)?\w*(?:Error|Exception)\b(?:: |$)|^Caused by: ",
    ),
    (
        Class::Unknown,
        r"^(?:E:|error|ERROR|Error)\b|^\[ERROR\]|^(?:npm|yarn) (?:ERR!|error)|^##\[error\]|^\* What went wrong|\bFAILED\b|(?i:^failed\b)|: error: ",
    ),
];

/// Lines that only say that something failed; they are taken when there is no better one.
const NOISE: &[&str] = &[
    r"^g?make(?:\[\d+\])?: (?:\*\*\*|Leaving|Entering)",
    r"(?i)process completed with exit code|exited with (?:exit )?code \d+|returned non-zero exit status|^exit status \d+$|script returned exit code",
    r"^error: could not compile `|^error: aborting due to|^error: build failed|^error: test failed, to rerun",
    r"^npm (?:ERR!|error) (?:code|errno|syscall|path|cwd|stack|A complete log|  ?/|in the case|not with npm|$)|ELIFECYCLE|^yarn run |Command failed with exit code|lerna ERR!",
    r"^\[ERROR\] (?:\[Help|Re-run|To see|For more|-> \[Help|After correcting|Failed to execute goal|$)|^BUILD FAIL|^\* Try:|^> Run with|^FAILURE: Build failed|^> There were failing tests",
    r"^FAIL$|^FAIL\t|^failures:$|^test result: FAILED|^Failures?:$|^Errors?:$|^=+ (?:FAILURES|ERRORS|short test summary)|^Caused by:$|^error: $|^Error: ?$",
    r"^\[Pipeline\]|^Finished: |^ERROR: script|^ERROR: Job failed|^##\[(?:group|endgroup|debug|command)\]|^warning\b|^WARN(?:ING)?\b|^npm (?:WARN|warn)\b",
    r"^fatal: Could not read from remote repository|^Please make sure you have the correct access rights|^\+ |^\$ ",
];

/// Lines that tell of what is well; a test may be called after any fault.
const GOOD: &str = r"\.\.\. (?:ok|ignored)$|^\s*--- (?:PASS|SKIP): |^=== RUN |^(?:✓|✔|√) |\bPASSED\b|^ok\s|^PASS\b|^\[       OK \]|^\[ RUN ";

/// What colours and moves: CSI and OSC sequences (ECMA-48) and the two-byte ones.
static ESCAPES: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]").ok());
/// A time at the beginning of a line, as loggers and runners put it there.
static TIME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let date = r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?: ?Z|(?: UTC)| ?[+-]\d\d:?\d\d)?";
    let syslog = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d \d\d:\d\d:\d\d";
    Regex::new(&format!(r"^(?:\[?(?:{date}|{syslog}|\d\d:\d\d:\d\d(?:[.,]\d+)?)\]?[:|]?\s+)+")).ok()
});
static SIGN_SET: LazyLock<Option<RegexSet>> = LazyLock::new(|| set(SIGNS.iter().map(|(_, sign)| *sign)));
static GOOD_SET: LazyLock<Option<RegexSet>> = LazyLock::new(|| set([GOOD].into_iter()));
static NOISE_SET: LazyLock<Option<RegexSet>> = LazyLock::new(|| set(NOISE.iter().copied()));

/// Bytes, not characters: lines in any encoding cost the same.
fn set(patterns: impl Iterator<Item = &'static str>) -> Option<RegexSet> {
    RegexSetBuilder::new(patterns).unicode(false).size_limit(64 << 20).dfa_size_limit(16 << 20).build().ok()
}

/// What was found in a text.
struct Found {
    class: Class,
    line: String,
}

/// Reads the output of a command that failed, and its exit code as shells count (128 and the number of a signal). Gives the class
/// and the one decisive line.
pub fn classify(text: &str, exit: Option<i32>) -> Failure {
    let found = decisive(text);
    let known = found.as_ref().map_or(Class::Unknown, |found| found.class);
    let class = match (exit, known) {
        // Nobody but the kernel sends a KILL, unless the text knows who did.
        (Some(137), Class::Timeout | Class::InfraLost | Class::Cancelled | Class::DiskFull) => known,
        (Some(137), _) => Class::Oom,
        (Some(124), Class::Unknown) => Class::Timeout,
        (Some(126 | 127), Class::Unknown) => Class::Config,
        (Some(130), Class::Unknown) => Class::Cancelled,
        (Some(129 | 143), Class::Unknown) => Class::InfraLost,
        _ => known,
    };
    let line = match found {
        // The words are about something else, or about nothing: the exit code is the news.
        Some(found) if class == known && known != Class::Unknown => found.line,
        found => words(exit, class, found.map(|found| found.line).or_else(|| last(text))),
    };
    let failure = Failure::new(class, cut(&line));
    exit.map_or(failure.clone(), |code| failure.exit(code))
}

/// What usually helps against failures of a class: a few words for the channel.
pub fn suggest(class: Class) -> &'static str {
    match class {
        Class::Network => "retry usually helps; if not, look at names, proxies and certificates on the way",
        Class::Timeout => "retry once; if it is slow every time, raise the stage's timeout",
        Class::Auth => "renew the credentials or rights it used; a retry alone does not help",
        Class::Quota => "wait until the limit resets, then !retry",
        Class::DiskFull => "free space on the build host, then !retry",
        Class::Oom => "give the stage more `mem`, or let it do less at a time",
        Class::InfraLost => "retry, on another host if there is one",
        Class::FlakyTest => "retry usually helps; mark or mend the test that wavers",
        Class::TestFailed => "mend what the tests found; a retry does not help",
        Class::Compile => "mend the code; a retry does not help",
        Class::Config => "correct what it was told (a name, a file, a parameter), then !retry",
        Class::AppNotReady => "rollback, then look at the logs of the new version",
        Class::StateLock => "wait for whoever holds the state, then !retry; break the lock only if nobody does",
        Class::Cancelled => "nothing is wrong with it; !retry when it may run",
        Class::Unknown => "look at the log; retry once if it looks like chance",
    }
}

/// The line to show where no sign of a known class decides: what the exit code means, with what was said last.
fn words(exit: Option<i32>, class: Class, said: Option<String>) -> String {
    let news = match (exit, class) {
        (Some(137), Class::Oom) => "killed (exit 137), most likely for its memory",
        (Some(124), Class::Timeout) => "it took too long and was ended (exit 124)",
        (Some(126), Class::Config) => "the command is not executable (exit 126)",
        (Some(127), Class::Config) => "the command was not found (exit 127)",
        (Some(130), Class::Cancelled) => "it was interrupted (exit 130)",
        (Some(129 | 143), Class::InfraLost) => "it was ended from outside (SIGTERM or SIGHUP), and not by us",
        (Some(139), Class::Unknown) if said.as_deref().is_none_or(|said| !said.contains("egmentation")) => {
            "it crashed: segmentation fault (exit 139)"
        }
        (Some(134), Class::Unknown) if said.is_none() => "it crashed: aborted (exit 134)",
        (code, _) => {
            let code = code.map_or_else(String::new, |code| format!(" with exit code {code}"));
            return said.unwrap_or_else(|| format!("it failed{code} and said nothing"));
        }
    };
    // A word such as `Killed` says nothing more.
    match said.filter(|said| said.len() > 12) {
        Some(said) => format!("{news}; it said: {said}"),
        None => news.to_owned(),
    }
}

/// The most decisive line. Lines of an unknown kind come after all others, noise after what is not.
fn decisive(text: &str) -> Option<Found> {
    let mut best: Option<((bool, bool, usize), String)> = None;
    let mut lines = lines(text).peekable();
    while let Some(line) = lines.next() {
        let line = clean(line);
        let Some(sign) = first_match(&SIGN_SET, &line) else { continue };
        if first_match(&GOOD_SET, &line).is_some() {
            continue;
        }
        let noise = first_match(&NOISE_SET, &line).is_some();
        let rank = (SIGNS[sign].0 == Class::Unknown, noise, sign);
        if best.as_ref().is_some_and(|(known, _)| *known <= rank) {
            continue;
        }
        // `panicked at src/main.rs:4:5:` is said on the next line.
        let next = lines.peek().map(|next| clean(next)).filter(|next| line.ends_with(':') && !next.is_empty());
        let whole = next.map_or_else(|| line.clone(), |next| format!("{line} {next}"));
        best = Some((rank, whole));
    }
    best.map(|((_, _, sign), line)| Found { class: SIGNS[sign].0, line })
}

/// The last line that says something, noise only if there is nothing else.
fn last(text: &str) -> Option<String> {
    let said: Vec<String> = lines(text).map(clean).filter(|line| !line.is_empty()).collect();
    let telling = said.iter().rev().find(|line| first_match(&NOISE_SET, line).is_none());
    telling.or(said.last()).cloned()
}

fn first_match(set: &LazyLock<Option<RegexSet>>, line: &str) -> Option<usize> {
    set.as_ref()?.matches(line.as_bytes()).iter().next()
}

/// The lines at both ends, at most [`LINES_MAX`].
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text.split('\n');
    let head: Vec<&str> = rest.by_ref().take(LINES_MAX / 2).collect();
    let tail: Vec<&str> = rest.rev().take(LINES_MAX / 2).collect();
    head.into_iter().chain(tail.into_iter().rev())
}

/// A line without colours, control codes, what was overwritten, and the time at its beginning.
fn clean(line: &str) -> String {
    let mut end = line.len().min(LOOKED_AT);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    // Of what a progress bar overwrote only the last is seen.
    let seen = line[..end].trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    let plain = match ESCAPES.as_ref().filter(|_| seen.contains('\x1b')) {
        Some(escapes) => escapes.replace_all(seen, ""),
        None => seen.into(),
    };
    let readable: String = plain.chars().filter(|c| *c == '\t' || !c.is_control()).collect();
    let trimmed = readable.trim();
    let said = TIME.as_ref().and_then(|time| time.find(trimmed)).map_or(trimmed, |time| &trimmed[time.end()..]);
    said.strip_prefix("##[error]").unwrap_or(said).trim().to_owned()
}

/// At most [`LINE_MAX`] characters, spaces run together.
fn cut(line: &str) -> String {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LINE_MAX {
        return line;
    }
    let kept: String = line.chars().take(LINE_MAX - 1).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;
    use regex::bytes::RegexBuilder;

    use super::*;

    /// A tail, its exit code, its class, and words of its decisive line.
    type Tail = (&'static str, Option<i32>, Class, &'static str);

    const SOURCES: &[Tail] = &[
        (
            "Cloning into 'shop'...\nremote: Invalid username or password.\nfatal: Authentication failed for 'https://git.example/shop.git/'",
            Some(128),
            Class::Auth,
            "Invalid username or password",
        ),
        (
            "Cloning into 'shop'...\nfatal: could not read Username for 'https://git.example': terminal prompts disabled",
            Some(128),
            Class::Auth,
            "could not read Username",
        ),
        (
            "git@git.example: Permission denied (publickey).\nfatal: Could not read from remote repository.\n\nPlease make sure you have the correct access rights\nand the repository exists.",
            Some(128),
            Class::Auth,
            "Permission denied (publickey)",
        ),
        (
            "Cloning into 'shop'...\nfatal: unable to access 'https://git.example/shop.git/': Could not resolve host: git.example",
            Some(128),
            Class::Network,
            "Could not resolve host: git.example",
        ),
        (
            "remote: Repository not found.\nfatal: repository 'https://git.example/shp.git/' not found",
            Some(128),
            Class::Config,
            "Repository not found",
        ),
        (
            "Auto-merging src/cart.rs\nCONFLICT (content): Merge conflict in src/cart.rs\nAutomatic merge failed; fix conflicts and then commit the result.",
            Some(1),
            Class::Config,
            "CONFLICT (content): Merge conflict in src/cart.rs",
        ),
        ("fatal: couldn't find remote ref refs/heads/fix-crt", Some(128), Class::Config, "couldn't find remote ref"),
        (
            "error: RPC failed; curl 56 GnuTLS recv error (-9)\nfatal: early EOF\nfatal: fetch-pack: invalid index-pack output",
            Some(128),
            Class::Network,
            "RPC failed",
        ),
        (
            "fatal: unable to access 'https://git.example/shop.git/': SSL certificate problem: certificate has expired",
            Some(128),
            Class::Network,
            "certificate has expired",
        ),
        (
            "ssh: connect to host git.example port 22: Connection timed out\nfatal: Could not read from remote repository.",
            Some(128),
            Class::Network,
            "Connection timed out",
        ),
        (
            "Host key verification failed.\nfatal: Could not read from remote repository.",
            Some(128),
            Class::Auth,
            "Host key verification failed",
        ),
    ];

    const IMAGES: &[Tail] = &[
        (
            "Step 1/9 : FROM node:20\ntoomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating.",
            Some(1),
            Class::Quota,
            "toomanyrequests",
        ),
        (
            "The push refers to repository [registry.example/shop]\n5f70bf18a086: Preparing\nunauthorized: authentication required",
            Some(1),
            Class::Auth,
            "unauthorized: authentication required",
        ),
        ("denied: requested access to the resource is denied", Some(1), Class::Auth, "denied: requested access"),
        (
            "Error response from daemon: write /var/lib/docker/tmp/GetImageBlob12: no space left on device",
            Some(1),
            Class::DiskFull,
            "no space left on device",
        ),
        (
            "Error: initializing source docker://registry.example/shop:7: reading manifest 7 in registry.example/shop: manifest unknown",
            Some(125),
            Class::Config,
            "manifest unknown",
        ),
        (
            "Error response from daemon: Get \"https://registry.example/v2/\": net/http: TLS handshake timeout",
            Some(1),
            Class::Network,
            "TLS handshake timeout",
        ),
        (
            "error pushing image: received unexpected HTTP status: 502 Bad Gateway",
            Some(1),
            Class::Network,
            "502 Bad Gateway",
        ),
        (
            "Get \"https://registry.example/v2/\": x509: certificate has expired or is not yet valid",
            Some(1),
            Class::Network,
            "x509",
        ),
        (
            "<html>\n<head><title>503 Service Temporarily Unavailable</title></head>\n</html>",
            Some(22),
            Class::Network,
            "503 Service Temporarily Unavailable",
        ),
    ];

    const CLUSTERS: &[Tail] = &[
        (
            "Error from server (Forbidden): deployments.apps \"shop\" is forbidden: User \"ci\" cannot patch resource",
            Some(1),
            Class::Auth,
            "Error from server (Forbidden)",
        ),
        (
            "The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?",
            Some(1),
            Class::Network,
            "was refused",
        ),
        (
            "Waiting for deployment \"shop\" rollout to finish: 4 out of 12 new replicas have been updated...\nerror: deployment \"shop\" exceeded its progress deadline",
            Some(1),
            Class::AppNotReady,
            "exceeded its progress deadline",
        ),
        (
            "shop-7f9c4   0/1   ImagePullBackOff   0   2m\nerror: timed out waiting for the condition",
            Some(1),
            Class::AppNotReady,
            "ImagePullBackOff",
        ),
        (
            "web-7f9c4 0/1 CrashLoopBackOff 4 3m\npanic: missing env STRIPE_KEY",
            Some(1),
            Class::AppNotReady,
            "CrashLoopBackOff",
        ),
        (
            "Warning  Unhealthy  Readiness probe failed: Get \"http://10.1.2.3:8080/health\": dial tcp 10.1.2.3:8080: connect: connection refused",
            Some(1),
            Class::AppNotReady,
            "Readiness probe failed",
        ),
        ("Error from server (NotFound): deployments.apps \"shp\" not found", Some(1), Class::Config, "NotFound"),
        (
            "Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress",
            Some(1),
            Class::StateLock,
            "another operation",
        ),
        (
            "Error creating: pods \"shop-1\" is forbidden: exceeded quota: compute, requested: cpu=2",
            Some(1),
            Class::Quota,
            "exceeded quota",
        ),
        (
            "The node was low on resource: ephemeral-storage. Container build was using 12Gi",
            Some(137),
            Class::InfraLost,
            "The node was low on resource",
        ),
        ("error: You must be logged in to the server (Unauthorized)", Some(1), Class::Auth, "You must be logged in"),
        (
            "fatal: [web1]: UNREACHABLE! => {\"changed\": false, \"msg\": \"Failed to connect to the host via ssh: ssh: connect to host web1 port 22: No route to host\", \"unreachable\": true}\n\nPLAY RECAP ***\nweb1 : ok=0 unreachable=1 failed=0",
            Some(4),
            Class::Network,
            "[web1]: UNREACHABLE!",
        ),
        (
            "fatal: [web1]: UNREACHABLE! => {\"msg\": \"Failed to connect to the host via ssh: deploy@web1: Permission denied (publickey).\"}",
            Some(4),
            Class::Auth,
            "Permission denied",
        ),
        (
            "TASK [shop : restart] ****\nfatal: [web2]: FAILED! => {\"changed\": false, \"msg\": \"Unable to restart service shop\"}\n\nPLAY RECAP ***",
            Some(2),
            Class::Unknown,
            "[web2]: FAILED! =>",
        ),
        (
            "fatal: [web2]: FAILED! => {\"msg\": \"The task includes an option with an undefined variable. 'shop_port' is undefined\"}",
            Some(2),
            Class::Config,
            "'shop_port' is undefined",
        ),
        (
            "╷\n│ Error: Error acquiring the state lock\n│ \n│ Error message: ConditionalCheckFailedException",
            Some(1),
            Class::StateLock,
            "Error acquiring the state lock",
        ),
        (
            "│ Error: configuring Terraform AWS Provider: no valid credential sources for AWS found.",
            Some(1),
            Class::Auth,
            "no valid credential",
        ),
        (
            "Error: Argument or block definition required\n\n  on main.tf line 12:\n  12: resource",
            Some(1),
            Class::Config,
            "Argument or block definition required",
        ),
        (
            "Error: error reading S3 Bucket: operation error S3: ThrottlingException: Rate exceeded",
            Some(1),
            Class::Quota,
            "Rate exceeded",
        ),
        (
            "An error occurred (ExpiredToken) when calling the PutObject operation: The provided token has expired.",
            Some(254),
            Class::Auth,
            "ExpiredToken",
        ),
        (
            "deploy@web1: Permission denied (publickey,password).",
            Some(255),
            Class::Auth,
            "Permission denied (publickey,password)",
        ),
        (
            "kex_exchange_identification: Connection closed by remote host",
            Some(255),
            Class::Network,
            "kex_exchange_identification",
        ),
    ];

    const BUILDS: &[Tail] = &[
        (
            "   Compiling shop v0.1.0\nwarning: unused variable: `x`\nerror[E0308]: mismatched types\n --> src/cart.rs:10:5\nerror[E0425]: cannot find value `y`\nerror: could not compile `shop` (lib) due to 2 previous errors; 1 warning emitted\nmake: *** [Makefile:3: build] Error 101",
            Some(2),
            Class::Compile,
            "error[E0308]: mismatched types",
        ),
        (
            "    Updating crates.io index\nwarning: spurious network error (3 tries remaining): [28] Timeout was reached\nerror: failed to get `serde` as a dependency of package `shop`\nCaused by:\n  [28] Timeout was reached (Operation too slow. Less than 10 bytes/sec transferred the last 30 seconds)",
            Some(101),
            Class::Network,
            "Operation too slow",
        ),
        (
            "error: no matching package named `srde` found\nlocation searched: crates.io index",
            Some(101),
            Class::Config,
            "no matching package named `srde`",
        ),
        (
            "src/main.c:4:2: error: expected ';' before 'return'\nmake[1]: *** [Makefile:5: main.o] Error 1",
            Some(2),
            Class::Compile,
            "src/main.c:4:2: error",
        ),
        (
            "c++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.",
            Some(1),
            Class::Oom,
            "Killed signal terminated program cc1plus",
        ),
        (
            "npm ERR! code ECONNRESET\nnpm ERR! errno ECONNRESET\nnpm ERR! network request to https://registry.npmjs.org/left-pad failed, reason: read ECONNRESET\nnpm ERR! A complete log of this run can be found in: /root/.npm/_logs/x.log",
            Some(1),
            Class::Network,
            "network request to https://registry.npmjs.org/left-pad failed",
        ),
        (
            "npm ERR! code EACCES\nnpm ERR! syscall mkdir\nnpm ERR! path /usr/lib/node_modules/x\nnpm ERR! Error: EACCES: permission denied, mkdir '/usr/lib/node_modules/x'",
            Some(243),
            Class::Auth,
            "Error: EACCES: permission denied",
        ),
        (
            "npm ERR! code E404\nnpm ERR! 404 Not Found - GET https://registry.npmjs.org/lft-pad - Not found",
            Some(1),
            Class::Config,
            "404 Not Found - GET",
        ),
        (
            "yarn install v1.22.19\nerror An unexpected error occurred: \"https://registry.yarnpkg.com/x: ESOCKETTIMEDOUT\".\ninfo Visit https://yarnpkg.com/en/docs/cli/install",
            Some(1),
            Class::Network,
            "ESOCKETTIMEDOUT",
        ),
        (
            "WARNING: Retrying after connection broken\nERROR: Could not find a version that satisfies the requirement flsk (from versions: none)\nERROR: No matching distribution found for flsk",
            Some(1),
            Class::Config,
            "Could not find a version that satisfies",
        ),
        (
            "pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='pypi.org', port=443): Read timed out.",
            Some(2),
            Class::Network,
            "ReadTimeoutError",
        ),
        (
            "[INFO] BUILD FAILURE\n[ERROR] COMPILATION ERROR : \n[ERROR] /w/src/main/java/Cart.java:[10,5] cannot find symbol\n[ERROR] Failed to execute goal org.apache.maven.plugins:maven-compiler-plugin:3.11.0:compile",
            Some(1),
            Class::Compile,
            "Cart.java:[10,5] cannot find symbol",
        ),
        (
            "[ERROR] Failed to execute goal on project shop: Could not resolve dependencies for project shop: Could not transfer artifact a:b:jar:1 from/to central: Connection reset",
            Some(1),
            Class::Network,
            "Could not transfer artifact",
        ),
        (
            "> Task :compileJava FAILED\n/w/src/main/java/Cart.java:10: error: ';' expected\n\nFAILURE: Build failed with an exception.\n* What went wrong:\nExecution failed for task ':compileJava'.",
            Some(1),
            Class::Compile,
            "Cart.java:10: error",
        ),
        (
            "# shop/cart\n./cart.go:12:3: undefined: total\nFAIL\tshop/cart [build failed]\nFAIL",
            Some(2),
            Class::Compile,
            "./cart.go:12:3: undefined: total",
        ),
        (
            "src/app.ts(3,7): error TS2322: Type 'string' is not assignable to type 'number'.\nerror Command failed with exit code 2.",
            Some(2),
            Class::Compile,
            "error TS2322",
        ),
        ("sh: 1: webpack: not found\nnpm ERR! code ELIFECYCLE", Some(127), Class::Config, "webpack: not found"),
        (
            "cp: cannot create regular file 'x': Permission denied\nmake: *** [Makefile:2: install] Error 1",
            Some(2),
            Class::Auth,
            "Permission denied",
        ),
        ("make: *** No rule to make target 'tset'.  Stop.", Some(2), Class::Config, "No rule to make target 'tset'"),
        (
            "E: Failed to fetch http://deb.debian.org/x.deb  Temporary failure resolving 'deb.debian.org'\nE: Unable to fetch some archives",
            Some(100),
            Class::Network,
            "Temporary failure resolving",
        ),
        (
            "tar: out.tar: Cannot write: No space left on device\ntar: Error is not recoverable: exiting now",
            Some(2),
            Class::DiskFull,
            "No space left on device",
        ),
        (
            "FATAL: hudson.remoting.ChannelClosedException: Channel \"agent-3\": Remote call on agent-3 failed.",
            Some(1),
            Class::InfraLost,
            "ChannelClosedException",
        ),
    ];

    const TESTS: &[Tail] = &[
        (
            "running 2 tests\ntest cart::adds ... FAILED\ntest cart::pays ... ok\n\nfailures:\n---- cart::adds stdout ----\nthread 'cart::adds' panicked at src/cart.rs:10:5:\nassertion `left == right` failed\n\ntest result: FAILED. 1 passed; 1 failed\nerror: test failed, to rerun pass `--lib`",
            Some(101),
            Class::TestFailed,
            "test cart::adds ... FAILED",
        ),
        (
            "--- FAIL: TestCart (0.00s)\n    cart_test.go:9: got 3, want 4\nFAIL\nFAIL\tshop/cart\t0.004s\nFAIL",
            Some(1),
            Class::TestFailed,
            "--- FAIL: TestCart",
        ),
        (
            "    def test_total():\n>       assert total() == 4\nE       assert 3 == 4\n\ntests/test_cart.py:3: AssertionError\n=== short test summary info ===\nFAILED tests/test_cart.py::test_total - assert 3 == 4\n=== 1 failed, 11 passed in 0.12s ===",
            Some(1),
            Class::TestFailed,
            "FAILED tests/test_cart.py::test_total - assert 3 == 4",
        ),
        (
            "tests/test_api.py:9: in test_login\nE   AssertionError: assert 500 == 200",
            Some(1),
            Class::TestFailed,
            "E AssertionError: assert 500 == 200",
        ),
        (
            "FAIL src/cart.test.js\n  ● cart › adds up\n\n    expect(received).toBe(expected)\n\nTests:       1 failed, 4 passed, 5 total\nnpm ERR! Test failed.  See above for more details.",
            Some(1),
            Class::TestFailed,
            "● cart › adds up",
        ),
        (
            "[ERROR] Tests run: 5, Failures: 1, Errors: 0, Skipped: 0 <<< FAILURE! - in CartTest\n[ERROR] There are test failures.",
            Some(1),
            Class::TestFailed,
            "Failures: 1",
        ),
        ("[  FAILED  ] Cart.AddsUp (0 ms)\n 1 FAILED TEST", Some(1), Class::TestFailed, "Cart.AddsUp"),
        (
            "FAILED tests/test_cart.py::test_race (marked flaky), rerun passed\n12 passed, 1 rerun",
            Some(1),
            Class::FlakyTest,
            "rerun passed",
        ),
        (
            "  1 flaky\n    [chromium] › cart.spec.ts:3:1 › pays\n  11 passed (12s)",
            Some(1),
            Class::FlakyTest,
            "1 flaky",
        ),
        (
            "  2 failed\n    [chromium] › cart.spec.ts:3:1 › pays\n  1 flaky\n  11 passed (12s)",
            Some(1),
            Class::TestFailed,
            "2 failed",
        ),
        (
            "[WARNING] Tests run: 5, Failures: 0, Errors: 0, Skipped: 0, Flakes: 1",
            Some(1),
            Class::FlakyTest,
            "Flakes: 1",
        ),
        (
            "test client::connection refused ... ok\ntest cart::adds ... FAILED\ntest result: FAILED. 1 passed; 1 failed",
            Some(101),
            Class::TestFailed,
            "cart::adds",
        ),
        ("--- PASS: TestOOMKilled (0.00s)\n--- FAIL: TestCart (0.00s)\nFAIL", Some(1), Class::TestFailed, "TestCart"),
        (
            "tests/test_limits.py::test_MemoryError_is_told PASSED\n  File \"x.py\"\nValueError: bad figure",
            Some(1),
            Class::Unknown,
            "ValueError: bad figure",
        ),
        (
            "WARN connect ECONNREFUSED 127.0.0.1:5432, trying again\nFAILED tests/test_db.py::test_rows - assert 0 == 3",
            Some(1),
            Class::TestFailed,
            "test_rows",
        ),
    ];

    const ENDS: &[Tail] = &[
        (
            "<--- Last few GCs --->\nFATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\nAborted (core dumped)",
            Some(134),
            Class::Oom,
            "JavaScript heap out of memory",
        ),
        (
            "Exception in thread \"main\" java.lang.OutOfMemoryError: Java heap space",
            Some(1),
            Class::Oom,
            "java.lang.OutOfMemoryError",
        ),
        (
            "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc",
            Some(134),
            Class::Oom,
            "std::bad_alloc",
        ),
        (
            "Traceback (most recent call last):\n  File \"x.py\", line 1\nMemoryError",
            Some(1),
            Class::Oom,
            "MemoryError",
        ),
        ("Compiling big v1.0.0", Some(137), Class::Oom, "killed (exit 137)"),
        ("deploy.sh: line 3:  4711 Killed                  ./big", Some(137), Class::Oom, "Killed"),
        (
            "The runner has lost communication: runner i-1 lost communication with the server",
            Some(137),
            Class::InfraLost,
            "lost communication",
        ),
        ("waiting for it", Some(124), Class::Timeout, "took too long"),
        ("", Some(127), Class::Config, "not found (exit 127)"),
        ("./deploy.sh: cannot run", Some(126), Class::Config, "not executable (exit 126)"),
        ("bash: line 1: kubectl: command not found", Some(127), Class::Config, "kubectl: command not found"),
        ("shutting down", Some(143), Class::InfraLost, "ended from outside"),
        ("Segmentation fault (core dumped)", Some(139), Class::Unknown, "Segmentation fault"),
        ("loading", Some(139), Class::Unknown, "segmentation fault (exit 139)"),
        ("##[error]Process completed with exit code 1.", Some(1), Class::Unknown, "Process completed"),
        ("", Some(3), Class::Unknown, "exit code 3 and said nothing"),
        (
            "thread 'main' panicked at src/main.rs:4:5:\nindex out of bounds: the len is 0\nnote: run with `RUST_BACKTRACE=1`",
            Some(101),
            Class::Unknown,
            "src/main.rs:4:5: index out of bounds",
        ),
        (
            "panic: missing env STRIPE_KEY\n\ngoroutine 1 [running]:\nmain.main()\nexit status 2",
            Some(2),
            Class::Config,
            "panic: missing env STRIPE_KEY",
        ),
        (
            "deploy.sh: line 3: unexpected EOF while looking for matching `\"'",
            Some(2),
            Class::Config,
            "unexpected EOF while",
        ),
        ("Aborted by ana\nFinished: ABORTED", Some(1), Class::Cancelled, "Aborted by ana"),
        ("Error: context deadline exceeded", Some(1), Class::Timeout, "deadline exceeded"),
        (
            "curl: (6) Could not resolve host: hub.example",
            Some(6),
            Class::Network,
            "Could not resolve host: hub.example",
        ),
        ("gathering facts\nit is broken", Some(3), Class::Unknown, "it is broken"),
    ];

    #[test]
    fn the_tails_of_real_tools_have_their_class_and_their_line() {
        let mut faults = Vec::new();
        let all = [SOURCES, IMAGES, CLUSTERS, BUILDS, TESTS, ENDS].concat();
        assert!(all.len() >= 45);
        for (text, exit, class, words) in all {
            let failure = classify(text, exit);
            let fits = failure.class == class && failure.line.contains(words) && failure.exit == exit;
            if !fits {
                faults.push(format!(
                    "{text}\n  wanted {class:?} {words:?}\n  got {:?} {:?}",
                    failure.class, failure.line
                ));
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n\n"));
    }

    #[test]
    fn every_pattern_compiles() {
        let patterns = SIGNS.iter().map(|(_, sign)| *sign).chain(NOISE.iter().copied());
        for pattern in patterns {
            RegexBuilder::new(pattern).unicode(false).build().unwrap();
        }
        assert!(GOOD_SET.is_some() && SIGN_SET.is_some() && NOISE_SET.is_some() && ESCAPES.is_some() && TIME.is_some());
    }

    #[test]
    fn colours_times_and_progress_bars_are_taken_off_the_line() {
        let line = |text: &str| classify(text, Some(1)).line;
        assert_eq!(line("\x1b[1m\x1b[31merror[E0308]\x1b[0m: mismatched\u{7} types"), "error[E0308]: mismatched types");
        assert_eq!(line("2026-11-21T16:33:11.123Z fatal: it is over"), "fatal: it is over");
        assert_eq!(line("[2026-11-21 16:33:11,5 +0100] [16:33:11] Error: no"), "Error: no");
        assert_eq!(line("Nov 21 16:33:11 Error: no"), "Error: no");
        assert_eq!(line("10%\r50%\rfatal: gone\r"), "fatal: gone");
        assert_eq!(line("\x1b]0;title\x07##[error]fatal: gone"), "fatal: gone");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let line = classify(&format!("fatal: {}", "ü".repeat(1500)), None).line;
        assert_eq!(line.chars().count(), LINE_MAX);
        assert!(line.starts_with("fatal: üü") && line.ends_with('…'));
    }

    #[test]
    fn of_a_log_without_end_only_both_ends_are_read() {
        let filler = "all is well\n".repeat(LINES_MAX);
        let text = format!("{filler}error[E0308]: in the middle\n{filler}fatal: at the end");
        assert_eq!(classify(&text, None).line, "fatal: at the end");
        assert_eq!(lines(&text).count(), LINES_MAX);
        assert_eq!(lines("a\nb\nc").collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn a_megabyte_of_anything_is_read_in_time() {
        let texts = ["x".repeat(1 << 20), "error: \x1b[31m\r".repeat(1 << 16), "fatal 503 E   assert\n".repeat(50_000)];
        for text in texts {
            classify("warm", None);
            let began = Instant::now();
            classify(&text, Some(1));
            assert!(began.elapsed() < Duration::from_secs(5), "{:?} for {:?}", began.elapsed(), &text[..20]);
        }
    }

    #[test]
    fn every_class_has_a_suggestion_that_fits_a_channel() {
        for name in Class::NAMES {
            let words = suggest(Class::named(name).unwrap());
            assert!(!words.is_empty() && words.len() < 100, "{name}: {words}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_command_writes_it_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..4000), exit in any::<Option<i32>>()) {
            let failure = classify(&String::from_utf8_lossy(&bytes), exit);
            prop_assert!(failure.line.chars().count() <= LINE_MAX && !failure.line.is_empty());
            prop_assert!(!failure.line.chars().any(char::is_control));
        }

        #[test]
        fn whatever_stands_around_it_the_first_real_error_is_found(before in "[a-z \n]{0,200}", after in "[a-z \n]{0,200}") {
            let failure = classify(&format!("{before}\nerror[E0308]: mismatched types\n{after}"), Some(101));
            prop_assert_eq!(failure.class, Class::Compile);
            prop_assert_eq!(failure.line, "error[E0308]: mismatched types");
        }
    }
}
