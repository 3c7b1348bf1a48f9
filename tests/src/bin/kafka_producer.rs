//! A plain producer for the benchmark of the log over Kafka: so many senders, each with its next message as soon as the
//! last is acknowledged, with the settings that trunklog's producer has. Prints one line of JSON.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde_json::json;
use tokio::task::JoinSet;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Sends the lines of a file again and again.
#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long)]
    brokers: String,
    #[arg(long)]
    topic: String,
    /// Values, one a line.
    #[arg(long)]
    lines: PathBuf,
    #[arg(long, default_value_t = 256)]
    senders: usize,
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let text = std::fs::read_to_string(&arguments.lines)?;
    let lines: Arc<[String]> = text.lines().map(str::to_owned).collect();
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &arguments.brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "1")
        .set("compression.type", "lz4")
        .set("socket.nagle.disable", "true")
        .create()?;
    let began = Instant::now();
    let until = began + Duration::from_secs(arguments.seconds);
    let mut senders = JoinSet::new();
    for sender in 0..arguments.senders {
        let (producer, lines, topic) = (producer.clone(), Arc::clone(&lines), arguments.topic.clone());
        senders.spawn(async move {
            let (mut taken, mut at) = (Vec::new(), sender);
            while Instant::now() < until {
                let line = &lines[at % lines.len()];
                at += 1;
                let record = FutureRecord::to(&topic).partition(0).key("/acme/placetel").payload(line.as_str());
                let asked = Instant::now();
                let sent = producer.send(record, Duration::from_secs(10)).await;
                sent.map_err(|(error, _)| error)?;
                taken.push(asked.elapsed());
            }
            Ok::<_, rdkafka::error::KafkaError>(taken)
        });
    }
    let mut taken: Vec<Duration> = Vec::new();
    while let Some(sender) = senders.join_next().await {
        taken.extend(sender??);
    }
    let seconds = began.elapsed().as_secs_f64();
    taken.sort_unstable();
    let percentile = |of: usize| taken[(taken.len() * of / 100).min(taken.len() - 1)].as_micros() as u64;
    let achieved = taken.len() as f64 / seconds;
    println!("{}", json!({ "achieved": achieved, "p50_us": percentile(50), "p99_us": percentile(99) }));
    Ok(())
}
