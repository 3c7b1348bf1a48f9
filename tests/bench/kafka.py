"""Benchmark of the log over Kafka, one broker on the same processors: Placetel messages over HTTP to trunklog (stored by
Kafka with acks=all, and visible to queries), beside a plain librdkafka producer with the same settings and messages, and
beside trunklog on its embedded log. All three take turns; ratios are medians over rounds with their extremes.

    BENCH_CONNECTIONS (16,256), BENCH_SECONDS (10), BENCH_ROUNDS (5)

Start a broker first, and stop it afterwards:

    tests/live/servers/kafka.sh up 1
    TRUNKLOG_BIN=target/release/trunklog python3 tests/bench/kafka.py
    tests/live/servers/kafka.sh down"""

import os
import tempfile
import uuid
from pathlib import Path

from served import HERE, canary, program, run, spread

from fixture import Server

BROKERS = os.environ.get("KAFKA_BROKERS", "127.0.0.1:29092")
CONNECTIONS = [int(number) for number in os.environ.get("BENCH_CONNECTIONS", "16,256").split(",")]
SECONDS = int(os.environ.get("BENCH_SECONDS", "10"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
FORMS = 200_000


def form(number):
    return f"event=HungUp&from=%2B4930{number % 9973:07}&to=%2B4989{number % 97:06}&call_id={uuid.uuid4().hex}&direction=in&type=accepted&duration={number % 300}"


def over_http(server, key, forms, connections):
    command = ["wrk", "-t2", f"-c{connections}", f"-d{SECONDS}s", "--timeout", "20s", "-s", HERE / "wrk_forms.lua", f"{server.url}/in/{key}/placetel"]
    return run(command, {"FORMS": str(forms)})


def plain(topic, forms, senders):
    return run([program("kafka_producer"), "--brokers", BROKERS, "--topic", topic, "--lines", forms, "--senders", senders, "--seconds", SECONDS])


def main():
    config = f'[kafka]\nbrokers = "{BROKERS}"\nreplication = 1\ntopic = "bench-{uuid.uuid4().hex[:8]}"\n'
    other = f"plain-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as folder, Server(config) as kafka, Server() as embedded:
        # Makes the plain producer's topic with the same settings.
        with Server(config.replace("bench-", other + "-")):
            pass
        topic = next(line.split('"')[1] for line in config.replace("bench-", other + "-").splitlines() if line.startswith("topic"))
        keys = [server.key("acme", "ingest:*") for server in (kafka, embedded)]
        forms = Path(folder) / "forms"
        for connections in CONNECTIONS:
            rounds = []
            for _ in range(ROUNDS):
                forms.write_text("\n".join(form(number) for number in range(FORMS)))
                rounds.append((over_http(kafka, keys[0], forms, connections), plain(topic, forms, connections), over_http(embedded, keys[1], forms, connections)))
            for name, place in (("trunklog over Kafka", 0), ("plain producer", 1), ("trunklog, embedded log", 2)):
                achieved = spread([one[place]["achieved"] for one in rounds])
                latency = spread([one[place]["p99_us"] / 1000 for one in rounds])
                print(f"{connections} connections: {name}: {achieved} messages/s, p99 {latency} ms")
            for name, place in (("plain producer", 1), ("embedded log", 2)):
                ratio = spread([one[0]["achieved"] / one[place]["achieved"] for one in rounds])
                print(f"{connections} connections: over Kafka / {name}: {ratio}")
    print(f"canary {canary():.2f} s")


if __name__ == "__main__":
    main()
