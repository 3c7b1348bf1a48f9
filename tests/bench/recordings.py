"""Benchmarks of recordings, performance.md (b) and (c): PUT, whole GET and Range GET of trunklog, beside nginx (WebDAV
PUT without a sync; sendfile) and the durable limit of this disk (write, fdatasync, rename, sync of the directory).

Rounds are interleaved, the order turns from round to round; the ratio is the median over rounds with its extremes.
BENCH_ROUNDS (3), BENCH_SECONDS (3), BENCH_SIZES and BENCH_CONNECTIONS choose how much; BENCH_GATE=1 fails below the
floors. All of it happens below TMPDIR, so that every server has the same disk. Needs wrk, nginx-light and cc.

    TRUNKLOG_BIN=target/release/trunklog python3 tests/bench/recordings.py [put|get]

Memory (one 4 GiB upload, 1,000 slow ones): TRUNKLOG_BIG_BYTES=4294967296 TRUNKLOG_SLOW_UPLOADS=1000
tests/live/uploads.sh."""

import http.client
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "live"))

from fixture import Server, need  # noqa: E402
from nginx import Nginx  # noqa: E402

KIB = 1024
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "3"))
SIZES = [int(text) for text in os.environ.get("BENCH_SIZES", "16384,65536,1048576,16777216").split(",")]
CONNECTIONS = [int(text) for text in os.environ.get("BENCH_CONNECTIONS", "1,4,16").split(",")]
OBJECTS = 200
OBJECT_BYTES = KIB * KIB
# Of the issue: (benchmark, size) and what trunklog must reach of which other.
FLOORS = {("put", 1_048_576): ("limit", 0.6), ("range", 65_536): ("nginx", 0.5)}


def words(count):
    return f"{count // (KIB * KIB)} MiB" if count >= KIB * KIB else f"{count // KIB} KiB"


def wrk(script, url, connections, **variables):
    """Requests per second, p50 and p99 in milliseconds. Any refused or broken request fails the benchmark."""
    command = [need("wrk"), "-t1", f"-c{connections}", f"-d{SECONDS}s", "--timeout", "30s", "-s", str(HERE / script), url]
    settings = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=settings).stdout
    line = next((line for line in output.splitlines() if line.startswith("WRK ")), None)
    assert line, f"wrk said\n{output}"
    rate, p50, p99, refused, broken = map(float, line.split()[1:])
    assert refused == 0 and broken == 0, f"{url}: {refused:.0f} refused, {broken:.0f} broken\n{output}"
    return rate, p50, p99


def processor_seconds(process):
    total = 0
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    for member in (process, *children):
        fields = Path(f"/proc/{member}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def timed(process, run):
    """What `run` measured, and the server's processor time per request in microseconds."""
    before = processor_seconds(process)
    rate, p50, p99 = run()
    return rate, p50, p99, (processor_seconds(process) - before) / max(rate * SECONDS, 1) * 1e6


def limit(program, folder, connections, size):
    """What this disk can do: each file written, synced, renamed and its directory synced."""
    command = [program, str(folder / "limit"), str(connections), str(size), str(SECONDS), "dir"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    fields = dict(word.split("=", 1) for word in output.split() if "=" in word)
    return float(fields["PUT/s"]), float(fields["p50_ms"]), float(fields["p99_ms"]), float("nan")


def interleave(contenders, clean=lambda: None):
    """Name to the results of its rounds."""
    results = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(ROUNDS):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            results[name].append(contenders[name]())
            clean()
    return results


def report(what, size, connections, bytes_each, results, failures):
    """Prints a line for each contender and remembers what is below its floor."""
    for name, rounds in results.items():
        rate, p50, p99, processor = (statistics.median(column) for column in zip(*rounds))
        line = f"| {what} | {words(size)} | {connections} | {name} | {rate:.0f} | {rate * bytes_each / 1e6:.0f} | {p50:.2f} | {p99:.2f} | "
        line += "–" if processor != processor else f"{processor:.0f}"
        own = results["trunklog"]
        if name != "trunklog":
            ratios = [ours[0] / theirs[0] for ours, theirs in zip(own, rounds)]
            ratio = statistics.median(ratios)
            line += f" | {ratio:.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
            peer, floor = FLOORS.get((what, size), (None, 0))
            if peer == name and ratio < floor:
                failures.append(f"{what} {words(size)}, {connections} connections: {ratio:.2f} of {name}, floor {floor}")
        else:
            line += " | "
        print(line + " |", flush=True)


def put(limit_program, failures):
    run = 0
    for size in SIZES:
        for connections in CONNECTIONS:
            # A server of its own for each cell, so that disks do not fill up.
            with Server() as server, Nginx() as nginx:
                key = server.key("acme", "ingest:*")
                path = f"/in/{key}/kazoo/recordings/call_recording_NAME%40h.wav"

                def ours():
                    nonlocal run
                    run += 1
                    return timed(server.process.pid, lambda: wrk("wrk_put.lua", server.url, connections, SIZE=size, FORMAT=path, RUN=run))

                def theirs():
                    nonlocal run
                    run += 1
                    name = f"/rec/{run}/NAME.wav"
                    return timed(nginx.process.pid, lambda: wrk("wrk_put.lua", nginx.url, connections, SIZE=size, FORMAT=name, RUN=run))

                contenders = {
                    "trunklog": ours,
                    "limit": lambda: limit(limit_program, nginx.root, connections, size),
                    "nginx": theirs,
                }
                report("put", size, connections, size, interleave(contenders, nginx.clean), failures)


def store(server, nginx):
    """The same objects on both sides; gives the files of paths."""
    ingest, query, listen = (server.key("acme", scope) for scope in ("ingest:*", "query", "recordings:read"))
    connection = http.client.HTTPConnection(*server.url.removeprefix("http://").split(":"), timeout=60)
    for number in range(OBJECTS):
        content = os.urandom(OBJECT_BYTES)
        target = f"/in/kazoo/recordings/call_recording_{number}%40h.wav"
        connection.request("PUT", target, content, {"Authorization": f"Bearer {ingest}", "Content-Type": "audio/wav"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 201, answer.status
        (nginx.files / f"{number}.wav").write_bytes(content)
    found = server.sql(query, "SELECT recording_id FROM recordings")["rows"]
    ours, theirs = nginx.root / "ours.txt", nginx.root / "theirs.txt"
    ours.write_text("".join(f"/v1/recordings/{row[0]}/audio\n" for row in found))
    theirs.write_text("".join(f"/{number}.wav\n" for number in range(OBJECTS)))
    return listen, ours, theirs


def get(failures):
    with Server() as server, Nginx() as nginx:
        token, ours, theirs = store(server, nginx)
        server.flush()
        for what, part, size in (("whole", 0, OBJECT_BYTES), ("range", 65_536, 65_536), ("range", 1_024, 1_024)):
            for connections in CONNECTIONS:

                def ask(process, url, keys):
                    variables = {"KEYS": keys, "RANGE": part, "SIZE": OBJECT_BYTES, "TOKEN": token}
                    return timed(process, lambda: wrk("wrk_get.lua", url, connections, **variables))

                contenders = {
                    "trunklog": lambda: ask(server.process.pid, server.url, ours),
                    "nginx": lambda: ask(nginx.process.pid, nginx.url, theirs),
                }
                report(what, size, connections, size, interleave(contenders), failures)


def main():
    for program in ("wrk", "cc"):
        need(program)
    wanted = sys.argv[1:] or ["put", "get"]
    failures = []
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.2f}, {ROUNDS} rounds of {SECONDS} s below {tempfile.gettempdir()}")
    print("\n| what | size | connections | who | requests/s | MB/s | p50 ms | p99 ms | µs of processor each | trunklog against it |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(prefix="trunklog-bench-") as folder:
        program = str(Path(folder) / "putlimit")
        subprocess.run(["cc", "-O2", "-pthread", str(HERE / "putlimit.c"), "-o", program], check=True)
        if "put" in wanted:
            put(program, failures)
        if "get" in wanted:
            get(failures)
    print(f"\nload at the end {os.getloadavg()[0]:.2f}")
    for failure in failures:
        print(f"below the floor: {failure}")
    if failures and os.environ.get("BENCH_GATE") == "1":
        sys.exit(1)


if __name__ == "__main__":
    main()
