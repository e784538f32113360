//! What somebody probably meant.

/// The name that was probably meant, if one is near.
pub fn closest<'a>(asked: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let asked = asked.to_lowercase();
    let near = |name: &str| strsim::damerau_levenshtein(&asked, &name.to_lowercase());
    let limit = (asked.chars().count() / 3).clamp(1, 3);
    names.map(|name| (near(name), name)).filter(|(distance, _)| *distance <= limit).min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_another_word_is_not() {
        let names = ["deploy", "status", "--force"];
        let close = |asked| closest(asked, names.into_iter());
        assert_eq!(close("depoly"), Some("deploy"));
        assert_eq!(close("--forse"), Some("--force"));
        assert_eq!(close("rollback"), None);
        assert_eq!(close(""), None);
    }
}
