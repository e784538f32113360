//! Of which people the word of another bot counts on who they are. Pure.

use super::facts::Letters;
use crate::users::{Book, User};

/// Of whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Of nobody.
    #[default]
    Nobody,
    /// Of those who hold no more than these letters, and no role, and whom no pipeline names.
    Below(Letters),
    /// Of everybody.
    Everybody,
}

impl Trust {
    /// What the words of two bots are worth, of which one passes on what the other says.
    #[must_use]
    pub fn through(self, other: Trust) -> Trust {
        match (self, other) {
            (Trust::Nobody, _) | (_, Trust::Nobody) => Trust::Nobody,
            (Trust::Everybody, trust) | (trust, Trust::Everybody) => trust,
            (Trust::Below(one), Trust::Below(other)) => Trust::Below(one.common(other)),
        }
    }

    /// Whether it counts at all.
    pub fn is_any(self) -> bool {
        self != Trust::Nobody
    }

    /// Whether it counts of somebody, by the book they stand in.
    pub fn covers(self, book: &Book, user: &User) -> bool {
        match self {
            Trust::Nobody => false,
            Trust::Below(letters) => !letters.are_below(book, user),
            Trust::Everybody => true,
        }
    }

    /// Whether the bot itself may do what people with a letter may.
    pub fn has(self, letter: char) -> bool {
        match self {
            Trust::Nobody => false,
            Trust::Below(letters) => letters.has(letter),
            Trust::Everybody => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::FlagSet;

    #[test]
    fn the_word_of_a_bot_is_worth_no_more_than_that_of_those_who_pass_it_on() {
        let below = |text: &str| Trust::Below(Letters::parse(text).unwrap());
        assert_eq!(below("Dv").through(below("Df")), below("D"));
        assert_eq!(Trust::Everybody.through(below("D")), below("D"));
        assert_eq!(below("D").through(Trust::Nobody), Trust::Nobody);
        assert_eq!(Trust::Everybody.through(Trust::Everybody), Trust::Everybody);
    }

    #[test]
    fn whoever_holds_more_or_a_role_is_not_covered() {
        let below = Trust::Below(Letters::parse("Dv").unwrap());
        let mut alice = User::new("alice").unwrap();
        alice.change_flags("D").unwrap();
        let book = Book::new();
        let covers = |trust: Trust, user: &User| trust.covers(&book, user);
        assert!(covers(below, &alice) && covers(Trust::Everybody, &alice) && !covers(Trust::Nobody, &alice));
        let lent = User { sudo: FlagSet::parse("n").unwrap(), ..alice.clone() };
        book.fill(vec![lent]);
        assert!(!covers(below, &alice), "what roles and !sudo bring counts");
        book.fill(vec![alice.clone()]);
        let mut op = alice.clone();
        op.change_channel_flags("libera/#ops", "+o").unwrap();
        let role = User { roles: vec!["oncall".to_owned()], ..alice.clone() };
        assert!(!covers(below, &op) && !covers(below, &role) && covers(Trust::Everybody, &role));
        book.name(&std::collections::BTreeSet::from(["alice".to_owned()]));
        assert!(!covers(below, &alice) && covers(Trust::Everybody, &alice), "whom pipelines name approves");
        assert!(below.has('v') && !below.has('t') && Trust::Everybody.has('t') && !Trust::Nobody.has('v'));
    }
}
