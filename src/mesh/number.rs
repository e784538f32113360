//! The numbers of the botnet's lines: base 64 in Eggdrop's own letters, `A` is nought, no padding. (`net.c`, `int_to_base64`.)

/// The digits, by their value.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789[]";

/// A number as it stands in a line.
pub fn encode(number: u32) -> String {
    let mut digits = Vec::with_capacity(6);
    let mut left = number;
    loop {
        digits.push(char::from(DIGITS[(left & 63) as usize]));
        left >>= 6;
        if left == 0 {
            break;
        }
    }
    digits.iter().rev().collect()
}

/// A number of a line. As in Eggdrop a letter that is no digit counts as nought; what is too large stays the largest.
pub fn decode(text: &str) -> u32 {
    let mut number: u64 = 0;
    for byte in text.bytes() {
        let digit = DIGITS.iter().position(|digit| *digit == byte).unwrap_or(0) as u64;
        number = (number << 6 | digit).min(u64::from(u32::MAX));
    }
    number as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_numbers_of_real_lines_are_read() {
        for (text, number) in [("A", 0), ("H", 7), ("EHxU", 1_080_404), ("EMjj", 1_100_003), ("*", 0), ("", 0)] {
            assert_eq!(decode(text), number, "{text}");
        }
        assert_eq!((encode(0), encode(7), encode(1_080_404)), ("A".to_owned(), "H".to_owned(), "EHxU".to_owned()));
        assert_eq!(decode(&"]".repeat(100)), u32::MAX);
    }

    proptest! {
        #[test]
        fn a_number_comes_back(number: u32) {
            prop_assert_eq!(decode(&encode(number)), number);
        }

        #[test]
        fn any_text_is_some_number(text in ".{0,40}") {
            decode(&text);
        }
    }
}
