//! Codes of an authenticator beside a password: RFC 6238, as every authenticator has it (SHA-1, 6 digits, 30 s).

use std::fmt;

use ring::hmac;
use subtle::ConstantTimeEq;

/// How long a code is shown, in seconds.
const STEP: i64 = 30;
/// Codes before and after the present one that count: clocks differ, and people type slowly.
const SKEW: i64 = 1;
/// Bytes of a new secret, as RFC 4226 recommends.
const SECRET_BYTES: usize = 20;
/// RFC 4648.
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What an authenticator and the bot share. Prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Totp {
    text: String,
}

/// Why there is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random numbers; is /dev/urandom there?")]
pub struct TotpFault;

impl Totp {
    /// A new secret.
    pub fn new() -> Result<Totp, TotpFault> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes).map_err(|_| TotpFault)?;
        Ok(Totp { text: base32(&bytes) })
    }

    /// A secret as it was stored. One that is damaged fits no code.
    pub fn stored(text: &str) -> Totp {
        Totp { text: text.to_owned() }
    }

    /// For storing, and for typing into an authenticator: base32.
    pub fn as_stored(&self) -> &str {
        &self.text
    }

    /// For an authenticator that reads addresses.
    pub fn uri(&self, bot: &str, handle: &str) -> String {
        let escaped = |text: &str| -> String {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            let of = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
            text.bytes().map(of).collect()
        };
        format!("otpauth://totp/{}:{}?secret={}&issuer={}", escaped(bot), escaped(handle), self.text, escaped(bot))
    }

    /// The code of a time.
    #[cfg(test)]
    pub(crate) fn code(&self, at: i64) -> String {
        digits(&unbase32(&self.text).unwrap_or_default(), at.div_euclid(STEP).cast_unsigned(), 6)
    }

    /// Whether this code is shown at a time (Unix seconds), or was or will be within half a minute: then its number.
    /// Whoever takes it must take each number once.
    pub fn check(&self, code: &str, at: i64) -> Option<u64> {
        let secret = unbase32(&self.text).filter(|secret| !secret.is_empty())?;
        let now = at.div_euclid(STEP);
        let mut found = None;
        for number in (now - SKEW).max(0)..=now + SKEW {
            let number = number.cast_unsigned();
            if digits(&secret, number, 6).as_bytes().ct_eq(code.trim().as_bytes()).into() {
                found = Some(number);
            }
        }
        found
    }
}

impl fmt::Debug for Totp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The code of a number: RFC 4226, section 5.3.
fn digits(secret: &[u8], number: u64, count: u32) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &number.to_be_bytes());
    let bytes = tag.as_ref();
    let at = usize::from(bytes.last().copied().unwrap_or(0) & 0xf);
    let four = bytes.get(at..at + 4).and_then(|four| <[u8; 4]>::try_from(four).ok()).unwrap_or_default();
    let code = (u32::from_be_bytes(four) & 0x7fff_ffff) % 10_u32.pow(count);
    format!("{code:0width$}", width = count as usize)
}

fn base32(bytes: &[u8]) -> String {
    let (mut out, mut held, mut bits) = (String::new(), 0u32, 0);
    for byte in bytes {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            out.push(char::from(ALPHABET[(held >> bits & 31) as usize]));
        }
    }
    if bits > 0 {
        out.push(char::from(ALPHABET[(held << (5 - bits) & 31) as usize]));
    }
    out
}

fn unbase32(text: &str) -> Option<Vec<u8>> {
    let (mut out, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for letter in text.bytes().filter(|letter| !matches!(letter, b'=' | b' ')) {
        let value = ALPHABET.iter().position(|known| *known == letter.to_ascii_uppercase())?;
        held = (held << 5 | u32::try_from(value).ok()?) & 0xffff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(held >> bits & 0xff).ok()?);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The secret of RFC 6238, appendix B.
    const SECRET: &[u8] = b"12345678901234567890";

    #[test]
    fn the_codes_are_those_of_the_rfc() {
        let vectors = [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ];
        for (at, code) in vectors {
            assert_eq!(digits(SECRET, at / 30, 8), code, "{at}");
        }
        // RFC 4226, appendix D.
        for (number, code) in [(0, "755224"), (1, "287082"), (9, "520489")] {
            assert_eq!(digits(SECRET, number, 6), code);
        }
    }

    #[test]
    fn a_code_counts_half_a_minute_earlier_and_later_and_a_damaged_secret_fits_none() {
        let totp = Totp::stored(&base32(SECRET));
        assert_eq!(totp.as_stored(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(totp.check("287082", 59), Some(1));
        assert_eq!((totp.check("287082", 89), totp.check("287082", 0)), (Some(1), Some(1)));
        assert_eq!((totp.check("287082", 90), totp.check("28708", 59), totp.check("", 59)), (None, None, None));
        assert_eq!(Totp::stored("not base32!").check("287082", 59), None);
        assert_eq!(Totp::stored("").check("328482", 59), None);
        assert_eq!(unbase32(Totp::new().unwrap().as_stored()).unwrap().len(), SECRET_BYTES);
        assert!(totp.uri("chief", "al^").contains("chief:al%5E?secret=GEZD"));
        assert_eq!(format!("{totp:?}"), "***");
    }
}
