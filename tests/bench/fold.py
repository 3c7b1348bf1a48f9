"""Benchmark of the fold: messages of five telephone systems to `events` and `calls` (sorted, compressed, durable),
beside DuckDB, chdb and Polars, which fold the same messages from NDJSON to one Parquet file without a sync. Then, on
what trunklog made: restarts, the fold of the late 0.5 %, bytes per call beside other forms of the same rows, and a
check of all contenders against what was generated.

Rounds are interleaved, the order turns from round to round; ratios are medians over rounds with their extremes.

    BENCH_CALLS (1000000; the full run takes 10000000), BENCH_ROUNDS (3), BENCH_SEED (1)
    BENCH_PEERS (duckdb,chdb,polars) and BENCH_PYTHON (this Python): who is there, and the Python that has them
    BENCH_FOLDER: where the messages are made once and kept; else all of it happens below TMPDIR
    BENCH_GATE=1 fails below the floors

10,000,000 calls take about 30 GB of disk and 16 GB of memory, most of both for the peers. This Python needs
`deltalake`, `duckdb` and `pyarrow`.

    TRUNKLOG_BIN=target/release/trunklog python tests/bench/fold.py"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import zlib
from pathlib import Path

from served import HERE, Served, canary, cold, interleave, program, run, spread

try:
    import duckdb
    import pyarrow
    from deltalake import DeltaTable
except ImportError as error:
    sys.exit(f"FAILED: {error}: pip install deltalake duckdb pyarrow")

MIB = 1 << 20
CALLS = int(os.environ.get("BENCH_CALLS", "1000000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SEED = int(os.environ.get("BENCH_SEED", "1"))
PEERS = [name for name in os.environ.get("BENCH_PEERS", "duckdb,chdb,polars").split(",") if name]
PYTHON = os.environ.get("BENCH_PYTHON", sys.executable)
SAMPLE_BYTES = 200 * MIB
# Of the issue.
SLOWEST = 150_000
MOST_MEMORY = 1 << 30
MOST_REWRITTEN = 2.0
SLOWEST_RESTART = 2.0
CHECK = """SELECT calls, messages, answered, talk_ms
           FROM (SELECT count(*) AS calls, count(*) FILTER (WHERE disposition = 'answered') AS answered,
                        sum(talk_ms) AS talk_ms FROM calls) AS folded
           CROSS JOIN (SELECT count(*) AS messages FROM events
                       WHERE source <> 'trunklog' AND duplicate_of IS NULL) AS sent"""


class Bench:
    """The folders, the truth, and what was found wanting."""

    def __init__(self, root, kept):
        self.root, self.data = root, root / "data"
        self.messages = kept / f"messages-{CALLS}-{SEED}.ndjson"
        self.failures = []
        note = self.messages.with_suffix(".json")
        if not (self.messages.is_file() and note.is_file()):
            said = self.generate("--ndjson", self.messages)
            note.write_text(json.dumps(said))
        self.truth = json.loads(note.read_text())
        self.expected = {name: self.truth[name] for name in ("calls", "answered", "talk_ms")}
        self.expected["messages"] = self.truth["messages"] - self.truth["repeats"]

    def generate(self, *arguments):
        return run([program("generate"), "--calls", CALLS, "--seed", SEED, *arguments])

    def require(self, holds, what):
        if not holds:
            self.failures.append(what)

    def check(self, who, found):
        self.require(found == self.expected, f"{who} has {found}, generated was {self.expected}")


def fold(bench):
    """The main part of the messages, written into a fresh log and folded from there."""
    shutil.rmtree(bench.data, ignore_errors=True)
    made = bench.generate("--data-dir", bench.data, "--part", "main")
    cold()
    found = run([program("fold_bench"), "fold", bench.data])
    assert found["next_offset"] >= made["messages"], f"{found['next_offset']} messages were folded of {made['messages']}"
    return {**found, "messages": made["messages"], "log_bytes": made["log_bytes"], "generated_per_second": made["messages_per_second"]}


def peer(bench, name):
    target = bench.root / f"{name}.parquet"
    cold()
    found = run([PYTHON, HERE / "peers_fold.py", name, bench.messages, target])
    bench.check(name, found["check"])
    return {**found, "messages": bench.truth["messages"]}


def rate(result):
    return result["messages"] / result["seconds"]


def compare(bench):
    contenders = {"trunklog": lambda: fold(bench)}
    contenders |= {name: lambda name=name: peer(bench, name) for name in PEERS}
    canaries = []
    results = interleave(contenders, ROUNDS, lambda: canaries.append(canary()))
    print("\n| who | messages/s | s | peak MiB | written MiB | trunklog against it |")
    print("|---|---|---|---|---|---|")
    own = results["trunklog"]
    for name, rounds in results.items():
        ratios = "" if name == "trunklog" else spread(rate(ours) / rate(theirs) for ours, theirs in zip(own, rounds))
        peak = max(found["highest_resident_bytes"] for found in rounds) / MIB
        # What a peer makes is one file, which it writes once (but for what it spills).
        written = statistics.median(found.get("written_bytes", found.get("bytes")) for found in rounds) / MIB
        seconds = spread((found["seconds"] for found in rounds), "{:.1f}")
        print(f"| {name} | {spread(map(rate, rounds), '{:.0f}')} | {seconds} | {peak:.0f} | {written:.0f} | {ratios} |", flush=True)
    last = own[-1]
    print(f"\nthe log of {last['messages']} messages: {last['log_bytes'] / last['messages']:.0f} B each, generated at {last['generated_per_second']:.0f}/s; "
          f"of the last fold {last['open_seconds']:.1f} s until it was open, {last['seconds'] - last['open_seconds']:.1f} s for flush and compaction, "
          f"read {last['read_bytes'] / MIB:.0f} MiB, written {last['written_bytes'] / MIB:.0f} MiB = {last['written_bytes'] / last['messages']:.0f} B a message")
    print(f"canary between the runs: {spread(canaries, '{:.3f}')} s (more than 15 % apart: the machine was not quiet)")
    slowest, memory = statistics.median(map(rate, own)), max(found["highest_resident_bytes"] for found in own)
    bench.require(slowest >= SLOWEST, f"{slowest:.0f} messages/s, floor {SLOWEST}")
    bench.require(memory <= MOST_MEMORY, f"the fold took {memory / MIB:.0f} MiB of memory, 1024 are allowed")
    bench.require(all(found["folded"] >= found["next_offset"] - 1 for found in own), "not everything was folded")


def opened(bench):
    """Seconds from the start of a process to the first snapshot, and what it says itself."""
    began = time.monotonic()
    process = subprocess.Popen([program("fold_bench"), "open", str(bench.data)], stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    seconds = time.monotonic() - began
    process.communicate()
    assert process.returncode == 0, f"`fold_bench open` ended with {process.returncode}"
    return seconds, json.loads(line)


def restarts(bench):
    print("\n| restart | s | peak MiB |\n|---|---|---|")
    forgets = cold()
    seconds, said = opened(bench)
    caches = "cold" if forgets else "caches kept"
    print(f"| archive after a clean end, {caches}: first snapshot | {seconds:.2f} | {said['highest_resident_bytes'] / MIB:.0f} |")
    bench.require(seconds <= SLOWEST_RESTART, f"a restart took {seconds:.2f} s, {SLOWEST_RESTART} are allowed")
    seconds, said = opened(bench)
    print(f"| the same, hot | {seconds:.2f} | {said['highest_resident_bytes'] / MIB:.0f} |")
    cold()
    with Served(bench.data) as server:
        ready = server.ready()
        _, seconds = server.first_answer("SELECT count(*) FROM calls")
        print(f"| `trunklog serve` after a clean end, {caches}: ready | {ready:.2f} | |")
        print(f"| the same: first answer of `trunklog sql` | {seconds:.2f} | |", flush=True)
        bench.require(ready <= SLOWEST_RESTART, f"`serve` was ready after {ready:.2f} s, {SLOWEST_RESTART} are allowed")


def killed(bench):
    """The same after `kill -9` in the midst of messages, whose tail must be read again: of calls of now, then of calls of
    weeks ago, whose rows must be read, too. Comes last: it adds calls."""
    question = "SELECT count(*) FROM events"
    for whose, calls in (("new calls", SEED + 1), ("calls of weeks ago", SEED)):
        with Served(bench.data) as server:
            key = server.key("acme", "ingest:placetel")
            (before,), = server.first_answer(question)[0]["rows"]
            command = [program("open_loop"), "--address", server.url.removeprefix("http://"), "--key", key, "--run", calls]
            sent = run([*command, "--rate", 2000, "--connections", 16, "--seconds", 10, "--warm-up", 0])["counted"]
            server.kill()
        cold()
        with Served(bench.data) as server:
            ready = server.ready()
            answer, seconds = server.first_answer(question)
        (after,), = answer["rows"]
        print(f"\n`trunklog serve` after `kill -9` with {sent} messages of {whose} just acknowledged: ready after {ready:.2f} s, first answer of `trunklog sql` after {seconds:.2f} s")
        bench.require(after - before >= sent, f"of {sent} acknowledged messages {after - before} were there after the kill")
        bench.require(seconds <= SLOWEST_RESTART, f"a restart after a kill took {seconds:.2f} s with {whose}, {SLOWEST_RESTART} are allowed")


def commits(table, after):
    """Adds and removes (path to size) of the versions behind this one."""
    adds, removes = {}, set()
    for path in sorted((table / "_delta_log").glob("*.json")):
        if int(path.stem) <= after:
            continue
        for action in map(json.loads, path.read_text().splitlines()):
            if "add" in action:
                adds[urllib.parse.unquote(action["add"]["path"])] = action["add"]["size"]
            elif "remove" in action:
                removes.add(urllib.parse.unquote(action["remove"]["path"]))
    return adds, removes


def version(table):
    return max(int(path.stem) for path in (table / "_delta_log").glob("*.json"))


def files(table, *wanted):
    """The files of a table's newest version that have these words in their paths, with their sizes."""
    paths = [Path(uri.removeprefix("file://")) for uri in DeltaTable(str(table)).file_uris()]
    return {path: path.stat().st_size for path in paths if all(word in str(path) for word in wanted)}


def listed(paths):
    return "[" + ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths) + "]"


def late(bench):
    """The late messages as one more batch: what the tables write for them, against the files that hold their calls."""
    calls, events = bench.data / "tables" / "calls", bench.data / "tables" / "events"
    keys = bench.root / "late-keys.txt"
    before = {table: version(table) for table in (calls, events)}
    kept = files(calls, "tier=final")
    made = bench.generate("--data-dir", bench.data, "--part", "late", "--keys", keys)
    with duckdb.connect() as connection:
        rows = f"read_parquet({listed(kept)}, filename = true, hive_partitioning = false)"
        wanted = f"read_csv('{keys}', header = false, columns = {{'key': 'VARCHAR'}})"
        found = connection.sql(f"SELECT DISTINCT filename FROM {rows} WHERE call_key IN (SELECT key FROM {wanted})").fetchall()
    touched = {Path(name) for (name,) in found}
    touched_bytes = sum(size for path, size in kept.items() if path in touched)
    said = run([program("fold_bench"), "fold", bench.data])
    adds, removes = commits(calls, before[calls])
    final = sum(size for path, size in adds.items() if "tier=final" in path)
    parts = sum(size for path, size in adds.items() if "tier=part" in path)
    untouched = [path for path in kept if path not in touched and str(path.relative_to(calls)) in removes]
    ratio = (final + parts) / max(touched_bytes, 1)
    event_adds, _ = commits(events, before[events])
    print(f"\nlate: {made['messages']} messages in {said['seconds']:.1f} s; {len(touched)} of {len(kept)} files of final calls hold their calls, {touched_bytes / MIB:.1f} MiB; "
          f"written: final {final / MIB:.1f} MiB, parts {parts / MIB:.1f} MiB = {ratio:.2f} of the touched files; {len(untouched)} others were replaced too; "
          f"events {sum(event_adds.values()) / MIB:.1f} MiB; the process wrote {said['written_bytes'] / MIB:.0f} MiB and took {said['highest_resident_bytes'] / MIB:.0f} MiB", flush=True)
    bench.require(touched_bytes > 0, "no file holds a call of a late message")
    bench.require(ratio <= MOST_REWRITTEN, f"the late fold wrote {ratio:.2f} of the touched files, {MOST_REWRITTEN} are allowed")


def agree(bench):
    """trunklog's counts and sums, over all messages."""
    with Served(bench.data) as server:
        answer, _ = server.first_answer(CHECK)
        (row,) = answer["rows"]
        found = dict(zip(("calls", "messages", "answered", "talk_ms"), map(int, row)))
    bench.check("trunklog", found)
    print(f"\ncheck: {found}, generated {bench.expected}: {'equal' if found == bench.expected else 'NOT EQUAL'}")


def written_by_duckdb(connection, select, target):
    connection.execute(f"COPY ({select}) TO '{target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3, ROW_GROUP_SIZE 250000)")
    return target.stat().st_size


def written_by_polars(paths, target):
    """The same columns and order by Polars, in a process of its own; `None` where it is not wanted."""
    if "polars" not in PEERS:
        return None
    text = """import sys, polars
rows = polars.scan_parquet(sys.argv[2:], hive_partitioning=False).drop("fold", strict=False)
rows.sort("tenant", "started_at").sink_parquet(sys.argv[1], compression="zstd", compression_level=3, row_group_size=250000)"""
    subprocess.run([PYTHON, "-c", text, str(target), *map(str, paths)], check=True)
    return target.stat().st_size


def compressed(path):
    """Bytes a byte of the first messages, by gzip 6, zstd 3 and zstd 19."""
    with open(path, "rb") as file:
        sample = file.read(SAMPLE_BYTES)
    small = sample[: 50 * MIB]
    zipped = zlib.compressobj(6)
    gzip = len(zipped.compress(sample)) + len(zipped.flush())

    def by_zstd(part, level):
        return len(pyarrow.Codec("zstd", compression_level=level).compress(part)) / len(part)

    return gzip / len(sample), by_zstd(sample, 3), by_zstd(small, 19)


def sizes(bench):
    """Bytes a call: what trunklog keeps, and other forms of the same rows."""
    calls, events = files(bench.data / "tables" / "calls"), files(bench.data / "tables" / "events")
    count = bench.truth["calls"]
    lines = [("trunklog: calls (with the fold's state)", sum(calls.values())), ("trunklog: events", sum(events.values()))]
    lines += [("trunklog: calls and events", sum(calls.values()) + sum(events.values()))]
    with duckdb.connect(str(bench.root / "calls.duckdb")) as connection:
        connection.execute("SET threads = 2; SET memory_limit = '8GB'; SET TimeZone = 'UTC'")
        connection.execute(f"SET temp_directory = '{bench.root / 'duckdb.tmp'}'")
        columns = connection.sql(f"SELECT path_in_schema, sum(total_compressed_size) FROM parquet_metadata({listed(calls)}) GROUP BY 1 ORDER BY 2 DESC").fetchall()
        fold_bytes = sum(size for name, size in columns if name == "fold")
        rows = f"read_parquet({listed(calls)}, hive_partitioning = false)"
        shown = f"SELECT * EXCLUDE (fold) FROM {rows} ORDER BY tenant, started_at"
        lines += [("trunklog: calls without the fold's state", sum(calls.values()) - fold_bytes)]
        lines += [("Parquet by DuckDB, same columns without it", written_by_duckdb(connection, shown, bench.root / "by-duckdb.parquet"))]
        connection.execute(f"CREATE TABLE calls AS {shown}")
        connection.execute("CHECKPOINT")
    by_polars = written_by_polars(calls, bench.root / "by-polars.parquet")
    lines += [("Parquet by Polars, same columns without it", by_polars)] if by_polars else []
    lines += [("DuckDB's own file, same columns without it", (bench.root / "calls.duckdb").stat().st_size)]
    raw = bench.messages.stat().st_size
    gzip, zstd, densest = compressed(bench.messages)
    lines += [("NDJSON of the messages", raw), ("the same, gzip 6", raw * gzip), ("the same, zstd 3", raw * zstd), ("the same, zstd 19", raw * densest)]
    lines += [("trunklog: whole data directory (with the log's spares and superseded files)", sum(path.stat().st_size for path in bench.data.rglob("*") if path.is_file()))]
    print("\n| form | B/call |\n|---|---|")
    for what, size in lines:
        print(f"| {what} | {size / count:.1f} |")
    dearest = ", ".join(f"{name} {size / count:.1f}" for name, size in columns[:14])
    print(f"\nby column of `calls` (compressed, B/call): {dearest}", flush=True)


def main():
    kept = os.environ.get("BENCH_FOLDER")
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="trunklog-bench-", dir=kept) as folder:
        root = Path(folder)
        print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.2f}, {CALLS} calls, {ROUNDS} rounds, below {root}", flush=True)
        bench = Bench(root, Path(kept or root))
        print(f"{bench.truth['messages']} messages, {bench.truth['repeats']} repeats, {bench.truth['late']} late, {bench.messages.stat().st_size / MIB:.0f} MiB as NDJSON", flush=True)
        for step in (compare, restarts, late, agree, sizes, killed):
            step(bench)
        print(f"\nload at the end {os.getloadavg()[0]:.2f}")
        for failure in bench.failures:
            print(f"below the floor: {failure}")
        if bench.failures and os.environ.get("BENCH_GATE") == "1":
            sys.exit(1)


if __name__ == "__main__":
    main()
