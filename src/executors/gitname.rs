//! Names that git is given and gives: which of them are refused before git sees them, what a listing says of them, and what somebody
//! probably meant. Pure.
//!
//! Facts: git-ls-remote(1), git-check-ref-format(1).

use super::class::{Class, Failure};

/// The longest name of a branch, a tag or a commit.
const NAME_MAX: usize = 250;
/// The longest line of git's that is shown.
pub(super) const SAID_MAX: usize = 200;
/// So many names are offered for one that is not there.
const OFFERED: usize = 3;

/// A name as the other side knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// `refs/heads/main`, `HEAD`.
    pub(super) full: String,
    /// The commit it stands for.
    pub(super) sha: String,
}

/// Whether a repository is a folder of this machine.
pub(super) fn is_local(repo: &str) -> bool {
    repo.starts_with("file://")
        || (!repo.contains("://") && repo.split('/').next().is_none_or(|first| !first.contains(':')))
}

/// Why a repository is refused before git sees it.
pub(super) fn repo_fault(repo: &str) -> Option<String> {
    let fault = if repo.is_empty() {
        "names no repository; write its URL or path"
    } else if repo.starts_with('-') || repo.chars().any(char::is_control) {
        "is not a repository; write its URL or path"
    } else if repo.split_once("::").is_some_and(|(helper, _)| !helper.contains(['/', '@', '['])) {
        "names a transport of git's own that may run commands; write https://, ssh:// or a path"
    } else if let Some((scheme, rest)) = repo.split_once("://") {
        let host = rest.split('/').next().unwrap_or("");
        let (user, name) = host.rsplit_once('@').unwrap_or(("", host));
        let http = matches!(scheme, "http" | "https");
        if !(http || matches!(scheme, "ssh" | "git" | "file")) {
            "is not reached by http, https, ssh, git or file"
        } else if (http && !user.is_empty()) || user.contains(':') {
            "has a name or a password in it; put the password into the variable GIT_TOKEN of the stage (and the name into GIT_USER)"
        } else if name.starts_with('-') || user.starts_with('-') {
            "has no host; write https://HOST/PATH"
        } else {
            return None;
        }
    } else if is_local(repo) && !repo.starts_with('/') {
        "is a path that does not begin with /; write all of it"
    } else {
        return None;
    };
    // What it says is not repeated where it may hold a password.
    Some(if repo.contains('@') || repo.is_empty() { format!("repo {fault}") } else { format!("repo {repo:?} {fault}") })
}

/// Why a name is refused before git sees it.
pub(super) fn ref_fault(reference: &str) -> Option<String> {
    let odd = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    let bad = reference.is_empty()
        || reference.len() > NAME_MAX
        || reference.starts_with(['-', '/', '.'])
        || reference.ends_with(['/', '.'])
        || reference.ends_with(".lock")
        || ["..", "@{", "//"].iter().any(|part| reference.contains(part))
        || reference.contains(odd);
    let shown: String = reference.chars().take(60).collect();
    bad.then(|| format!("ref {shown:?} cannot be a branch, a tag or a commit; write one of these"))
}

/// Whether it is a whole hash.
pub(super) fn is_sha(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether it may be the beginning of a hash.
pub(super) fn is_short(text: &str) -> bool {
    (7..40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What `git ls-remote` is asked for a name; more may match, see [`pick`].
pub(super) fn patterns(reference: &str) -> Vec<String> {
    if reference == "HEAD" {
        return vec![reference.to_owned()];
    }
    if reference.starts_with("refs/") {
        return vec![reference.to_owned(), format!("{reference}^{{}}")];
    }
    ["refs/heads/@", "refs/tags/@", "refs/tags/@^{}"].iter().map(|form| form.replace('@', reference)).collect()
}

/// The name meant, in a listing of `git ls-remote`: a branch before a tag, as `git clone --branch` has it.
pub(super) fn pick(listing: &str, reference: &str) -> Option<Named> {
    let sha_of = |full: &str| {
        let mut lines = listing.lines().filter_map(|line| line.split_once('\t'));
        lines.find(|(sha, name)| *name == full && is_sha(sha)).map(|(sha, _)| sha.to_ascii_lowercase())
    };
    let whole = reference == "HEAD" || reference.starts_with("refs/");
    let forms = if whole {
        vec![reference.to_owned()]
    } else {
        vec![format!("refs/heads/{reference}"), format!("refs/tags/{reference}")]
    };
    forms.into_iter().find_map(|full| {
        let own = sha_of(&full)?;
        // An annotated tag is an object of its own; its commit stands in a second line.
        let sha = sha_of(&format!("{full}^{{}}")).unwrap_or(own);
        Some(Named { full, sha })
    })
}

/// The one commit with this beginning that a branch or a tag stands for.
pub(super) fn tip(listing: &str, short: &str) -> Option<String> {
    let short = short.to_ascii_lowercase();
    let shas = listing.lines().filter_map(|line| line.split_once('\t')).map(|(sha, _)| sha);
    let mut found: Vec<&str> = shas.filter(|sha| is_sha(sha) && sha.starts_with(&short)).collect();
    found.sort_unstable();
    found.dedup();
    if let [sha] = found[..] { Some(sha.to_owned()) } else { None }
}

/// Nobody there has this name; those that are close are offered.
pub(super) fn unknown(repo: &str, reference: &str, listing: &str) -> Failure {
    let names = listing
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .filter_map(|(_, full)| full.strip_prefix("refs/heads/").or_else(|| full.strip_prefix("refs/tags/")));
    let wanted = reference.to_lowercase();
    let mut close: Vec<(usize, &str)> = names
        .take(10_000)
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let inside =
                wanted.len() >= 3 && (lower.contains(&wanted) || (lower.len() >= 3 && wanted.contains(&lower)));
            let far = distance(&wanted, &lower);
            (inside || far <= 1 + wanted.chars().count() / 4).then_some((far, name))
        })
        .collect();
    close.sort_unstable();
    close.dedup();
    let offered: Vec<&str> = close.into_iter().take(OFFERED).map(|(_, name)| name).collect();
    let hint = if offered.is_empty() {
        "write a branch, a tag or a commit of it".to_owned()
    } else {
        format!("did you mean {}?", offered.join(", "))
    };
    let line = format!("{} has no branch or tag {reference}; {hint}", place(repo));
    Failure::new(Class::Config, line)
}

/// How many letters must change to make one text of the other; of long ones the beginning counts.
fn distance(a: &str, b: &str) -> usize {
    let front = |text: &str| text.chars().take(NAME_MAX).collect::<String>();
    strsim::levenshtein(&front(a), &front(b))
}

/// How a repository is called in a sentence.
pub(super) fn place(repo: &str) -> String {
    repo.chars().take(SAID_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_repository_or_name_is_refused_before_git_sees_it() {
        let hostile = [
            "",
            "-u./x",
            "--upload-pack=touch /tmp/x",
            "ext::sh -c id",
            "fd::7",
            "foo::https://a/b",
            "javascript://a/b",
            "https://ana:hunter2@git.example/shop",
            "https://ghp_token@git.example/shop",
            "ssh://ana:pw@git.example/shop",
            "ssh://-oProxyCommand=id/x",
            "https://a/b\nc",
            "relative/path",
        ];
        for repo in hostile {
            let fault = repo_fault(repo).unwrap_or_else(|| panic!("{repo} was let in"));
            assert!(!fault.contains("hunter2") && !fault.contains("ghp_token"), "{fault}");
        }
        for repo in [
            "https://git.example/shop.git",
            "git@git.example:team/shop",
            "ssh://git@git.example:22/shop",
            "/srv/shop.git",
            "file:///srv/shop",
        ] {
            assert_eq!(repo_fault(repo), None);
        }
        for name in
            ["", "-x", "--all", "a b", "a..b", "a:b", "x~1", "x^", "@{-1}", "a*", "a\\b", "x.lock", "/x", "x/", "a\tb"]
        {
            assert!(ref_fault(name).is_some(), "{name} was let in");
        }
        for name in ["main", "feature/ü-x#1", "v1.2.3", "refs/pull/7/head", "HEAD", "a'b;c$(d)"] {
            assert_eq!(ref_fault(name), None, "{name}");
        }
    }

    #[test]
    fn a_name_is_a_branch_before_a_tag_and_an_annotated_tag_is_its_commit() {
        let (one, two, three) = ("1".repeat(40), "2".repeat(40), "3".repeat(40));
        let listing = format!(
            "{one}\trefs/heads/x/main\n{two}\trefs/heads/main\n{three}\trefs/tags/main\n{one}\trefs/tags/v1\n{three}\trefs/tags/v1^{{}}\nno tab\nshort\trefs/heads/odd"
        );
        assert_eq!(pick(&listing, "main"), Some(Named { full: "refs/heads/main".to_owned(), sha: two.clone() }));
        assert_eq!(pick(&listing, "v1").unwrap().sha, three);
        assert_eq!((pick(&listing, "odd"), pick(&listing, "heads/main")), (None, None));
        assert_eq!(tip(&listing, "2222222"), Some(two));
        assert_eq!(tip(&listing, "4444444"), None);
    }

    #[test]
    fn a_name_that_is_not_there_is_told_with_those_that_are_close() {
        let listing = "1\trefs/heads/main\n2\trefs/heads/release-2\n3\trefs/tags/v1.2.3\n4\trefs/heads/other";
        let line = |name: &str| unknown("/srv/shop", name, listing).line;
        assert!(line("mian2").contains("write a branch"), "{}", line("mian2"));
        assert!(line("Main").ends_with("did you mean main?"), "{}", line("Main"));
        assert!(line("v1.2.4").ends_with("did you mean v1.2.3?"), "{}", line("v1.2.4"));
        assert!(line("release").contains("release-2"), "{}", line("release"));
    }

    #[test]
    fn letters_that_differ_are_counted() {
        assert_eq!(
            (distance("main", "main"), distance("mian", "main"), distance("", "abc"), distance("kitten", "sitting")),
            (0, 2, 3, 3)
        );
    }
}
