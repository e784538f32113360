//! What helps against a failure, by its class.

use crate::executors::Class;

/// What helps against a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pipelines) enum Recovery {
    /// To try it again.
    Retry,
    /// To try it again somewhere else.
    RetryElsewhere,
    /// To go back to what was there before.
    Rollback,
    /// Somebody has to look first.
    Ask,
    /// Nothing but mending what it was told or made of.
    Mend,
}

/// What helps against failures of a class. A suggestion: whoever reads it decides, and retries that a pipeline allows go by it.
pub(in crate::pipelines) fn recovery(class: Class) -> Recovery {
    match class {
        Class::Network | Class::Timeout | Class::FlakyTest | Class::Cancelled => Recovery::Retry,
        Class::InfraLost | Class::DiskFull => Recovery::RetryElsewhere,
        Class::AppNotReady => Recovery::Rollback,
        Class::Quota | Class::StateLock | Class::Unknown => Recovery::Ask,
        Class::Auth | Class::Oom | Class::TestFailed | Class::Compile | Class::Config => Recovery::Mend,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_with_a_host_or_finds_no_room_there_is_tried_on_another_one() {
        let elsewhere: Vec<&str> = Class::NAMES
            .iter()
            .copied()
            .filter(|name| Class::named(name).is_some_and(|class| recovery(class) == Recovery::RetryElsewhere))
            .collect();
        assert_eq!(elsewhere, ["disk_full", "infra_lost"]);
        assert_eq!(recovery(Class::AppNotReady), Recovery::Rollback);
    }
}
