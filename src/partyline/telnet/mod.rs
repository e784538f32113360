//! The telnet face: a handle, a password, and then lines, as Eggdrop has it.

mod iac;
mod pager;
mod session;

pub(super) use session::{clean, serve};

/// Any bytes as what somebody types.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(bytes: &[u8]) {
    let mut lines = iac::Lines::default();
    lines.feed(bytes);
    while let Some(line) = lines.next_line() {
        assert!(!line.bytes().any(|byte| byte < 32), "a control character came through");
    }
}
