//! What Kafka says when something is in the way, in words that say what to do next.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// How the trouble begins that is over when a broker answers.
pub(super) const AWAY: &str = "no broker answers";

/// What is said where librdkafka was built without OpenSSL.
pub(super) const NO_TLS: &str =
    "this masterchief has neither TLS nor SCRAM for Kafka: build it with --features kafka-tls";

fn code(fault: &KafkaError) -> Option<RDKafkaErrorCode> {
    fault.rdkafka_error_code()
}

/// Faults that librdkafka gets over by itself.
pub(super) fn passes(fault: &KafkaError) -> bool {
    let code = match fault {
        KafkaError::MessageConsumption(code) => code,
        KafkaError::PartitionEOF(_) => return true,
        _ => return false,
    };
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::NotCoordinator
            | RDKafkaErrorCode::CoordinatorLoadInProgress
            | RDKafkaErrorCode::CoordinatorNotAvailable
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::NotLeaderForPartition
    )
}

/// Why nothing can come while such a fault lasts; nothing for what is over in a moment.
pub(super) fn in_the_way(fault: &KafkaError, topic: &str) -> Option<String> {
    match code(fault)? {
        RDKafkaErrorCode::AllBrokersDown => Some(format!("{AWAY}: {fault}")),
        RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => {
            Some(format!("there is no topic {topic}; it is read once somebody makes it"))
        }
        _ => None,
    }
}

/// Why brokers will not have us before somebody changes something, and what; nothing for what may pass by itself.
pub(in crate::stream) fn refusal(fault: &KafkaError, reason: &str) -> Option<String> {
    let next = match code(fault)? {
        RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed => {
            "the brokers refuse the user or the password; put right username, password or mechanism of the connection \
             under sources.kafka"
        }
        RDKafkaErrorCode::UnsupportedSASLMechanism => {
            "the brokers do not know this mechanism; put another one under sources.kafka, as in mechanism: SCRAM-SHA-512"
        }
        RDKafkaErrorCode::SSL => {
            "the encrypted connection was refused; name the file of the authority that signed the brokers' certificate, \
             as in options: {ssl.ca.location: /etc/ssl/kafka.pem}, and call the brokers by the names that it bears"
        }
        // librdkafka tells what ends a consumer by a code of its own.
        code if code == RDKafkaErrorCode::FencedInstanceId || reason.contains("group.instance.id") => {
            "another bot has the same group.instance.id; give each bot one of its own under options of the connection \
             under sources.kafka"
        }
        RDKafkaErrorCode::GroupAuthorizationFailed => {
            "the user may not read with this group; allow it, or name another group under sources.kafka"
        }
        RDKafkaErrorCode::TopicAuthorizationFailed => "the user may not use this topic; allow it",
        RDKafkaErrorCode::NotImplemented => {
            "a message is compressed in a way that this masterchief does not know; let who publishes compress by gzip, \
             snappy, lz4 or zstd"
        }
        _ => return None,
    };
    Some(if reason.is_empty() { next.to_owned() } else { format!("{next} ({reason})") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_is_not_there_and_brokers_that_are_away_are_trouble_and_a_slow_answer_is_none() {
        let why = |code| in_the_way(&KafkaError::MessageConsumption(code), "deploys");
        assert!(why(RDKafkaErrorCode::UnknownTopicOrPartition).unwrap().contains("there is no topic deploys"));
        assert!(why(RDKafkaErrorCode::AllBrokersDown).unwrap().starts_with(AWAY));
        assert_eq!(why(RDKafkaErrorCode::OperationTimedOut), None);
    }

    #[test]
    fn what_brokers_refuse_is_told_with_what_to_change() {
        let why = |code| refusal(&KafkaError::Global(code), "said so");
        assert!(why(RDKafkaErrorCode::Authentication).unwrap().contains("password"));
        assert!(why(RDKafkaErrorCode::SSL).unwrap().contains("ssl.ca.location"));
        assert!(why(RDKafkaErrorCode::FencedInstanceId).unwrap().ends_with("(said so)"));
        assert!(why(RDKafkaErrorCode::NotImplemented).unwrap().contains("zstd"));
        assert_eq!(why(RDKafkaErrorCode::BrokerTransportFailure), None);
    }
}
