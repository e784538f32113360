//! How sentences are written here: a line each.

/// Functions that fill in a sentence each.
macro_rules! sentences {
    ($($name:ident($($part:ident: $kind:ident),*) = $text:literal;)*) => {
        $(
            #[doc = concat!("```text\n", $text, "\n```")]
            pub fn $name($($part: impl $kind),*) -> String {
                format!($text, $($part = $part),*)
            }
        )*
    };
}

pub(super) use sentences;
