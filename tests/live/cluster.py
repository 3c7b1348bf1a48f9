"""Two nodes of each role over three brokers, a topic of three partitions and an S3 server. While `simulate` sends to the nodes that take messages,
brokers, nodes and the S3 server are killed, held up and cut off in turn. In the end the tables equal what was played, each
message is there once, and a rebuild gives the same rows. Meanwhile a prober sends calls of its own and asks the nodes that
answer for each: with the offset of the 2xx they must have it, and how long that takes is shown. Run by on_kafka.sh, with
TRUNKLOG_TEST_BROKERS, and KAFKA and S3 naming the scripts that start and stop the servers.

TRUNKLOG_CLUSTER_CALLS (4500, some 20,000 messages; the full run 45,000) is how many calls are played."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from fixture import binary, environment, size
from nodes import PARTITIONS, Node, admin_key, end, shared_config

CALLS = size("TRUNKLOG_CLUSTER_CALLS", 4500)
# Messages a second: slow enough that all troubles come while they are sent.
RATE = size("TRUNKLOG_CLUSTER_RATE", 200)
KAFKA, S3 = os.environ["KAFKA"], os.environ["S3"]
# Columns of the truth that are no columns of calls.
SPECIAL = {"lost", "recordings"}


def server(script, *arguments):
    subprocess.run([script, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


class Trouble:
    """One trouble after the other, until told to stop; what is down is up again in the end."""

    def __init__(self, nodes):
        self.nodes, self.stop, self.happened, self.failure = nodes, threading.Event(), [], None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            round = 0
            while not self.stop.is_set():
                for trouble in (self.broker, self.node, self.bucket):
                    if not self.stop.is_set():
                        trouble(round)
                        self.stop.wait(2)
                round += 1
        except Exception as error:
            self.failure = error

    def note(self, what):
        self.happened.append(what)

    def broker(self, round):
        broker = 1 + round % 3
        if round % 2:
            server(KAFKA, "pause", broker)
            self.stop.wait(4)
            server(KAFKA, "resume", broker)
            self.note("broker held up")
        else:
            server(KAFKA, "kill", broker)
            self.stop.wait(3)
            server(KAFKA, "start", broker)
            self.note("broker killed")

    def node(self, round):
        names = ("compact", "query", "compact", "ingest", "compact")
        role = names[round % len(names)]
        of_role = [node for node in self.nodes if node.role == role]
        node = max(of_role, key=lambda node: len(node.folds()) if role == "compact" else int(node.name[-1]) * (-1) ** round)
        match round % 3:
            case 0:
                node.signal(signal.SIGKILL)
                node.process.wait()
                self.stop.wait(1)
                node.start()
                self.note(f"{role} killed")
            case 1:
                node.signal(signal.SIGSTOP)
                # Longer than a lease lives.
                self.stop.wait(18 if role == "compact" else 4)
                node.signal(signal.SIGCONT)
                self.note(f"{role} held up")
            case 2:
                node.cable.is_cut = True
                self.stop.wait(18 if role == "compact" else 4)
                node.cable.is_cut = False
                self.note(f"{role} cut off")

    def bucket(self, round):
        if round % 2:
            server(S3, "pause")
            self.stop.wait(3)
            server(S3, "resume")
            self.note("S3 held up")
        else:
            server(S3, "kill")
            self.stop.wait(2)
            server(S3, "start")
            self.note("S3 killed")

    def end(self):
        self.stop.set()
        self.thread.join(120)
        assert self.failure is None, f"the trouble itself failed: {self.failure!r}"
        assert len(self.happened) >= 6, f"too little happened: {self.happened}"


class Prober:
    """Sends a message, and asks every node that answers for it with the offset of the 2xx."""

    def __init__(self, ingest, query, keys):
        self.ingest, self.query, self.keys = ingest, query, keys
        self.stop, self.times, self.calls, self.wrong = threading.Event(), [], 0, None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        place = 0
        while not self.stop.wait(0.1):
            form = f"event=IncomingCall&from=493012345&to=493098765&direction=in&call_id=probe-{self.calls}".encode()
            offset = None
            while offset is None:
                try:
                    url = f"{self.ingest[place % len(self.ingest)].url}/in/{self.keys[0]}/placetel"
                    done = subprocess.run(["curl", "-sS", "-m", "20", "-D", "-", "-d", form, url], capture_output=True, text=True)
                    found = re.search(r"(?im)^trunklog-offset: (\S+)", done.stdout)
                    offset = found and done.stdout.startswith("HTTP/1.1 200") and found[1]
                finally:
                    place += offset is None
            acknowledged = time.monotonic()
            self.calls += 1
            body = {"sql": f"SELECT count(*) AS calls FROM calls WHERE call_key = 'probe-{self.calls - 1}'", "min_offset": offset}
            for node in self.query:
                try:
                    answer = node.ask("POST", "/v1/sql", key=self.keys[1], body=json.dumps(body).encode(), timeout=20)
                except OSError:
                    continue  # It is down, or says that it has not got there yet.
                self.times.append(time.monotonic() - acknowledged)
                if json.loads(answer)["rows"] != [[1]]:
                    self.wrong = f"{node.name} answered without what it said that it has: {answer} {body}"

    def end(self):
        self.stop.set()
        self.thread.join(60)
        assert self.wrong is None, self.wrong
        assert len(self.times) > 20, f"only {len(self.times)} answers"

    def histogram(self):
        limits = (0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, float("inf"))
        counts = [sum(below < took <= limit for took in self.times) for below, limit in zip((-1, *limits), limits)]
        ordered = sorted(self.times)
        middle, high = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
        shown = ", ".join(f"<= {limit:g} s: {count}" for limit, count in zip(limits, counts))
        return f"from a 2xx to the answer of a query that has it, {len(ordered)} times: p50 {middle * 1000:.0f} ms, p99 {high:.2f} s ({shown})"


def difference(expected, actual):
    """As tests/src/expect.rs compares."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        return next((f"{name}: {text}" for name, value in expected.items() if (text := difference(value, actual.get(name)))), None)
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        return next((text for pair in zip(expected, actual) if (text := difference(*pair))), None)
    if isinstance(expected, str) and (expected == "*" and actual is not None or expected.startswith("~") and expected[1:] in (actual or "")):
        return None
    return None if expected == actual else f"expected {expected!r}, found {actual!r}"


def compare(truth, calls, recordings):
    problems, rows = [], {}
    for call in calls:
        if rows.setdefault((call["source"], call["call_key"]), call) is not call:
            problems.append(f"{call['source']} {call['call_key']} has more than one row")
    heard = {}
    for recording in recordings:
        heard.setdefault(recording["call_id"], []).append([recording["sha256"], recording["bytes"]])
    for played in truth:
        name = (played["source"], played["call_key"])
        row = rows.pop(name, None)
        if row is None:
            problems.append(f"{name} is missing")
            continue
        differing = (difference(value, row[column]) for column, value in played.items() if column not in SPECIAL)
        problems += [f"{name}: {text}" for text in differing if text]
        stated = sorted([audio["sha256"], audio["bytes"]] for audio in played.get("recordings", []))
        found = sorted(heard.pop(row["call_id"], []))
        if stated != found:
            problems.append(f"{name} recordings: expected {stated}, found {found}")
    problems += [f"{name} was never played" for name in rows]
    problems += [f"recordings of {call_id} belong to no call" for call_id in heard]
    assert not problems, f"{len(problems)} differences; the first: " + "; ".join(problems[:8])


def play(root, nodes, keys):
    """Plays the calls while there is trouble; gives the truth and what the prober saw."""
    of_role = lambda role: [node for node in nodes if node.role == role]
    truth, errors = root / "truth.ndjson", root / "simulate.err"
    command = [binary(), "simulate", "--url", ",".join(node.url for node in of_role("ingest")), "--key", keys[0]]
    # Many at once, so that messages which wait for a broker do not hold up all the others.
    command += ["--calls", CALLS, "--rate", RATE, "--concurrency", 256, "--seed", 7, "--duplicates", 0.01, "--out-of-order", 0.05, "--late", 0.005, "--truth", truth]
    with errors.open("w") as file:
        playing = subprocess.Popen(list(map(str, command)), stdout=file, stderr=file, env=environment(), cwd=root)
        trouble, prober = Trouble(nodes), Prober(of_role("ingest"), of_role("query"), keys)
        status = playing.wait(3600)
    trouble.end()
    prober.end()
    assert status == 0, f"simulate ended with {status}: {errors.read_text()[-2000:]}"
    return [json.loads(line) for line in truth.read_text().splitlines()], trouble, prober


def check(root):
    settings = ('fold.interval = "2s"', "query.rows = 10000000", 'query.time = "5m"', "tenants.acme.time_zone = \"Europe/Rome\"")
    config = shared_config(root, *settings)
    nodes = [Node(root, f"{role}-{number}", config, role) for role in ("compact", "ingest", "query") for number in (1, 2)]
    compact, query = nodes[:2], nodes[4:]
    try:
        for node in nodes:
            node.start()
        for node in nodes:
            node.until(node.ready, "at the start")
        admin = admin_key(nodes)
        keys = [nodes[3].run("keys", "create", "--tenant", "acme", "--scope", scope) for scope in ("ingest:*", "query")]
        time.sleep(1.5)
        truth, trouble, prober = play(root, nodes, keys)
        for node in nodes:
            node.until(lambda: node.ready().get("status") == "ready", "in the end")
        unread = "SELECT recording_id FROM recordings WHERE status = 'received' AND container IS NULL LIMIT 1"
        query[0].until(lambda: not query[0].rows(keys[1], unread), "recordings were looked at", 900)
        query[1].patiently("POST", "/v1/admin/flush", key=admin, timeout=300)
        hashes = []
        for node in query:
            calls = node.rows(keys[1], "SELECT * FROM calls WHERE call_key NOT LIKE 'probe-%'")
            compare(truth, calls, node.rows(keys[1], "SELECT call_id, sha256, bytes FROM recordings"))
            [probes] = node.rows(keys[1], "SELECT count(*) AS calls FROM calls WHERE call_key LIKE 'probe-%'")
            assert probes["calls"] == prober.calls, f"{prober.calls} probes were acknowledged: {probes}"
            [events] = node.rows(keys[1], 'SELECT count(*) AS stored, count(DISTINCT event_id) AS ids, count(DISTINCT "partition" * 1000000000 + "offset") AS offsets, count(DISTINCT "partition") AS partitions, count(*) FILTER (WHERE quarantined) AS quarantined FROM events')
            assert events["stored"] == events["ids"] == events["offsets"] and events["quarantined"] == 0 and events["partitions"] > 1, f"{events}"
            hashes.append(re.findall(r"[0-9a-f]{64}", node.run("verify", "--hash")))
        # Who rebuilds must fold all partitions.
        leader, other = compact
        if other.folds():
            other.patiently("POST", "/v1/admin/handover", key=admin)
        leader.until(lambda: len(leader.folds()) == PARTITIONS, "until it folds all partitions")
        leader.patiently("POST", "/v1/admin/rebuild", key=admin, timeout=600)
        hashes.append(re.findall(r"[0-9a-f]{64}", leader.run("verify", "--hash")))
        assert len(hashes[0]) > 1 and hashes.count(hashes[0]) == 3, f"query nodes and the rebuild differ: {hashes}"
        print(f"cluster: {len(truth)} calls, {events['stored']} messages, {prober.calls} probes, each once, as played, on both nodes and rebuilt; meanwhile: {', '.join(f'{what} {trouble.happened.count(what)}' for what in sorted(set(trouble.happened)))}")
        print(prober.histogram())
    finally:
        end(nodes)


root = Path(tempfile.mkdtemp(prefix="trunklog-cluster-"))
try:
    check(root)
    shutil.rmtree(root, ignore_errors=True)
except (AssertionError, subprocess.CalledProcessError) as error:
    sys.exit(f"FAILED: {error}; the nodes' folders are kept: {root}")
