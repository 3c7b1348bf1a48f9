//! The topic: made with settings under which nothing is lost, and looked at before it is trusted.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::types::RDKafkaErrorCode;

use super::context::Context;
use super::{KafkaConfig, LARGEST, unavailable};
use crate::error::Error;

/// A request about the topic may take so long.
const PATIENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 15 });
/// The largest batch that the topic takes: some messages of the largest size.
const BATCH_BYTES: &str = "16777216";
/// What lies in the log for a shorter time may be gone before it is in the tables.
const SHORTEST_RETENTION: Duration = Duration::from_secs(3 * 24 * 3600);

fn admin(config: &KafkaConfig) -> Result<(AdminClient<Context>, AdminOptions), Error> {
    let admin = config.client().create_with_context(Context);
    let admin = admin.map_err(|error| Error::Config(format!("the settings of Kafka: {error}")))?;
    Ok((admin, AdminOptions::new().operation_timeout(Some(PATIENCE)).request_timeout(Some(PATIENCE))))
}

/// Makes the topic; it is no error if somebody else just did.
///
/// # Errors
/// `Config` when the brokers refuse.
pub(super) async fn make(config: &KafkaConfig) -> Result<(), Error> {
    let (admin, options) = admin(config)?;
    let (retention, insync) = (config.retention.as_millis().to_string(), config.min_insync_replicas.to_string());
    let partitions = i32::try_from(config.partitions).unwrap_or(i32::MAX);
    let topic = NewTopic::new(&config.topic, partitions, TopicReplication::Fixed(config.replication))
        .set("cleanup.policy", "delete")
        .set("retention.ms", &retention)
        .set("retention.bytes", "-1")
        .set("max.message.bytes", BATCH_BYTES)
        .set("min.insync.replicas", &insync)
        .set("unclean.leader.election.enable", "false");
    let made =
        admin.create_topics([&topic], &options).await.map_err(|error| unavailable("making the topic", &error))?;
    match made.into_iter().next() {
        Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((topic, code))) => Err(Error::Config(format!(
            "Kafka does not make the topic `{topic}` with {} copies: {code}",
            config.replication
        ))),
        _ => {
            tracing::info!(topic = config.topic, replication = config.replication, "made the topic of the log");
            Ok(())
        }
    }
}

/// Looks at the settings of a topic that is there; gives the bytes of a message that it takes. Brokers that do not tell
/// are believed, and that is logged.
///
/// # Errors
/// `Config`, naming the setting of the topic under which messages would be lost.
pub(super) async fn check(config: &KafkaConfig) -> Result<u64, Error> {
    let (admin, options) = admin(config)?;
    let resource = ResourceSpecifier::Topic(&config.topic);
    let described = admin.describe_configs([&resource], &options).await;
    let entries = match described.map(|described| described.into_iter().next()) {
        Ok(Some(Ok(resource))) => resource.entries,
        other => {
            let reason = other.map(|result| format!("{result:?}")).unwrap_or_else(|error| error.to_string());
            tracing::warn!(topic = config.topic, reason, "the settings of the topic cannot be looked at");
            return Ok(LARGEST);
        }
    };
    let value = |name: &str| entries.iter().find(|entry| entry.name == name).and_then(|entry| entry.value.as_deref());
    verdict(config, value)?;
    let largest = value("max.message.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(LARGEST);
    if largest < LARGEST {
        let topic = &config.topic;
        let advice = "longer messages will be refused (413); set `max.message.bytes` of the topic to 16777216";
        tracing::warn!(topic, "the topic takes messages of at most {largest} bytes, with their envelope: {advice}");
    }
    Ok(largest.min(LARGEST))
}

/// Says which setting would lose messages.
fn verdict<'a>(config: &KafkaConfig, value: impl Fn(&str) -> Option<&'a str>) -> Result<(), Error> {
    let topic = &config.topic;
    let wrong = |name: &str, found: &str, why: &str| {
        Err(Error::Config(format!("the topic `{topic}` has `{name}={found}`: {why}; change it with kafka-configs.sh")))
    };
    let number = |name: &str| value(name).and_then(|text| text.parse::<i64>().ok());
    if let Some(policy) = value("cleanup.policy").filter(|policy| *policy != "delete") {
        return wrong("cleanup.policy", policy, "compaction keeps only the last message of each call");
    }
    if let Some(insync) = number("min.insync.replicas").filter(|insync| *insync < config.min_insync_replicas.into()) {
        let why = "a message could be acknowledged that lies on too few brokers (`kafka.min_insync_replicas`)";
        return wrong("min.insync.replicas", &insync.to_string(), why);
    }
    let shortest = i64::try_from(SHORTEST_RETENTION.min(config.retention).as_millis()).unwrap_or(i64::MAX);
    if let Some(kept) = number("retention.ms").filter(|kept| *kept >= 0 && *kept < shortest) {
        let why = "messages could be gone before they are in the tables; keep them for three days or longer";
        return wrong("retention.ms", &kept.to_string(), why);
    }
    if let Some(kept) = number("retention.bytes").filter(|kept| *kept >= 0) {
        return wrong("retention.bytes", &kept.to_string(), "messages could be gone before they are in the tables");
    }
    if let Some(unclean) = value("unclean.leader.election.enable").filter(|unclean| *unclean == "true") {
        let why = "a broker that lacks acknowledged messages could become the leader";
        return wrong("unclean.leader.election.enable", unclean, why);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn settings_that_lose_messages_are_named() {
        let config = KafkaConfig { min_insync_replicas: 2, ..KafkaConfig::new("localhost:9092") };
        let good = HashMap::from([
            ("cleanup.policy", "delete"),
            ("min.insync.replicas", "2"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("unclean.leader.election.enable", "false"),
        ]);
        verdict(&config, |name| good.get(name).copied()).expect("nothing is lost");
        verdict(&config, |_| None).expect("nothing is known");
        for (name, bad) in [
            ("cleanup.policy", "compact"),
            ("cleanup.policy", "compact,delete"),
            ("min.insync.replicas", "1"),
            ("retention.ms", "3600000"),
            ("retention.ms", "0"),
            ("retention.bytes", "1073741824"),
            ("unclean.leader.election.enable", "true"),
        ] {
            let mut settings = good.clone();
            settings.insert(name, bad);
            let error = verdict(&config, |name| settings.get(name).copied()).expect_err(name);
            assert!(error.to_string().contains(&format!("{name}={bad}")), "{error}");
        }
    }
}
