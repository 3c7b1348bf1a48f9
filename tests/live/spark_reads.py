"""The same questions to trunklog and to Spark, after a flush, with calls still arriving late before it: equal answers,
from tables on the local disk and in a bucket. Run by on_spark.sh."""

import json
import subprocess
import sys
import time
from pathlib import Path

from fixture import Server, size, wait

SPARK = Path(__file__).resolve().parent / "servers" / "spark.sh"
QUESTIONS = [
    "SELECT count(*) AS calls, count(DISTINCT call_id) AS ids FROM calls",
    "SELECT source, count(*) AS n FROM calls GROUP BY source ORDER BY source",
    "SELECT source, disposition, count(*) AS n, sum(talk_ms) AS talk FROM calls GROUP BY source, disposition ORDER BY source, disposition",
    "SELECT direction, min(duration_ms) AS low, max(duration_ms) AS high FROM calls GROUP BY direction ORDER BY direction",
    "SELECT count(DISTINCT from_number) AS callers FROM calls WHERE disposition = 'answered'",
    "SELECT call_key, talk_ms, ring_ms FROM calls WHERE talk_ms IS NOT NULL ORDER BY talk_ms DESC, call_key LIMIT 25",
    "SELECT extract(HOUR FROM started_at) AS hour, count(*) AS n FROM calls GROUP BY extract(HOUR FROM started_at) ORDER BY hour",
    "SELECT type, count(*) AS n, count(DISTINCT call_key) AS calls FROM events WHERE source <> 'trunklog' GROUP BY type ORDER BY type",
    "SELECT count(*) AS n FROM events WHERE duplicate_of IS NOT NULL AND source <> 'trunklog'",
    "SELECT count(*) AS n, count(DISTINCT sha256) AS sounds, sum(bytes) AS bytes FROM recordings",
    "SELECT c.source AS source, count(*) AS n FROM calls c JOIN recordings r ON c.call_id = r.call_id GROUP BY c.source ORDER BY c.source",
]


def ours(server, key):
    answers = []
    for question in QUESTIONS:
        answer = server.sql(key, question)
        names = [column["name"] for column in answer["columns"]]
        answers.append([dict(zip(names, row)) for row in answer["rows"]])
    return answers


def theirs(server, tables):
    file = server.root / "questions.sql"
    file.write_text("\n".join(QUESTIONS))
    output = subprocess.run([SPARK, tables, file], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return [json.loads(line) for line in output.stdout.splitlines() if line.startswith("[")]


def check(config, tables):
    with Server(config) as server:
        ingest, query = server.key("acme", "ingest:*"), server.key("acme", "query")
        calls = size("TRUNKLOG_SPARK_CALLS", 800)
        arguments = ["--calls", calls, "--rate", 500, "--seed", 4, "--duplicates", "0.02", "--late", "0.05"]
        sending = server.simulate(ingest, *arguments)
        # Those that come late do so after a first fold.
        while server.sql(query, "SELECT count(*) AS messages FROM events")["rows"] == [[0]]:
            assert sending.poll() is None, "nothing was sent"
            time.sleep(0.2)
        server.flush()
        wait(sending, 600, "the simulation")
        server.flush()
        answers = ours(server, query)
        found = theirs(server, tables or str(server.data / "tables"))
        assert len(found) == len(QUESTIONS), f"Spark answered {len(found)} of {len(QUESTIONS)} questions"
        for question, mine, spark in zip(QUESTIONS, answers, found):
            # Spark leaves out what is null.
            spark = [{name: row.get(name) for name in mine[0]} for row in spark] if mine else spark
            assert mine == spark, f"{question}\ntrunklog: {mine}\nSpark:    {spark}"
        assert answers[0][0]["calls"] > calls * 0.9, f"only {answers[0]} of {calls} calls"
        print(f"spark: {len(QUESTIONS)} answers over {answers[0][0]['calls']} calls are equal, read from {tables or 'the local disk'}")


def main():
    check("", None)
    check('[store]\nurl = "s3://trunklog/spark"\n', "s3a://trunklog/spark/tables")


try:
    main()
except subprocess.CalledProcessError as error:
    sys.exit(f"FAILED: Spark: {error.stderr[-3000:]}")
except AssertionError as error:
    sys.exit(f"FAILED: {error}")
