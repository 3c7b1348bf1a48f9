"""Benchmark of polled reports under ingest, performance.md (f): `GET /v1/reports/volume` by day over the whole archive,
beside nginx that serves the same bytes as a file, while messages are posted to trunklog all the while (an open loop of
Placetel's, calls of now). nginx's file stays as it is; trunklog's report changes with the calls. Pollers ask for

    200    the report until the end of tomorrow, which changes with the messages, without an ETag
    304    the report until last midnight, which the messages do not touch, with its ETag: every answer is 304

In each round both have each kind, and take turns in going first; ratios are medians over rounds with their extremes.
One more round of `200` with few connections shows whether computations grow with the number of pollers. Fails if a
median ratio is below the floor, or if a turn was not what is said here.

    BENCH_DATA: a data directory made with `generate --calls N --data-dir DIR`; it is folded if it is not, and keeps the
        messages and keys of this benchmark. Without it one of BENCH_CALLS (10000000) calls is made below TMPDIR
    BENCH_ROUNDS (5), BENCH_SECONDS (10), BENCH_CONNECTIONS (64), BENCH_FEW (8)
    BENCH_RATE (2000) messages/s; BENCH_TZ (Europe/Berlin): zone of the days

wrk, the sender, nginx and trunklog share the processors of the machine. Needs wrk and nginx-light.

    TRUNKLOG_BIN=target/release/trunklog python3 tests/bench/poll.py"""

import json
import os
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from served import Served, canary, cold, program, run, spread

# Of the live suites, which `served` makes known.
import nginx
from fixture import need

CALLS = int(os.environ.get("BENCH_CALLS", "10000000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "10"))
CONNECTIONS = int(os.environ.get("BENCH_CONNECTIONS", "64"))
FEW = int(os.environ.get("BENCH_FEW", "8"))
RATE = int(os.environ.get("BENCH_RATE", "2000"))
ZONE = ZoneInfo(os.environ.get("BENCH_TZ", "Europe/Berlin"))
SENDERS, WARM_UP = 16, 1
# Of the generator.
TENANT = "acme"
# Of issue 7: requests/s of trunklog against nginx.
FLOOR = 0.4
# Of the interface: at most one computation in 100 ms, and one at the edge of what is counted.
MOST_COMPUTATIONS = 10 * SECONDS * 1.1 + 1
COUNTERS = ("trunklog_report_computations_total", "trunklog_report_requests_total")
SCRIPT = """
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('{"rate": %.3f, "p99_us": %d, "bytes_each": %.1f, "refused": %d, "broken": %d}\\n',
    (summary.requests - errors.status) / (summary.duration / 1e6), latency:percentile(99), summary.bytes / math.max(summary.requests, 1),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
"""
# nginx must spread connections over both workers, or it would be slower than it can be.
nginx.CONFIGURATION = nginx.CONFIGURATION.replace("backlog=4096", "reuseport backlog=4096").replace("types {{", "types {{ application/json json;")
Answer = namedtuple("Answer", "status tag body seconds")


def metrics(server, names):
    """Of each name the sum of its samples over their labels."""
    with urllib.request.urlopen(server.url + "/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    found = {name: [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))] for name in names}
    if missing := [name for name in names if not found[name]]:
        sys.exit(f"FAILED: /metrics has no {', '.join(missing)}")
    return [sum(found[name]) for name in names]


def wait_until_folded(server):
    deadline = time.monotonic() + 3600
    while (lag := metrics(server, ["trunklog_fold_lag_messages"])[0]) > 0:
        if time.monotonic() > deadline or server.process.poll() is not None:
            sys.exit(f"FAILED: {lag:.0f} messages are not folded; see {server.log.name}")
        time.sleep(0.2)


def span(server):
    """Days of the first and of the last call, as the zone has them."""
    answer, _ = server.first_answer(f"SELECT min(started_at), max(started_at) FROM calls WHERE tenant = '{TENANT}'")
    (times,) = answer["rows"]
    assert None not in times, f"the archive has no calls of `{TENANT}`"
    return [datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(ZONE).date() for text in times]


def report_between(first, until):
    """Path of the report from one midnight to another."""
    ends = [datetime.combine(day, datetime.min.time(), ZONE).isoformat() for day in (first, until)]
    return "/v1/reports/volume?" + urllib.parse.urlencode({"from": ends[0], "until": ends[1], "tz": ZONE.key, "bucket": "day"})


class Poll:
    """A server and an nginx with the same bytes, and what was found wanting."""

    def __init__(self, server, peer, folder, days):
        self.server, self.peer = server, peer
        server.administer()
        self.key = server.key(TENANT, "ingest:*", "query")
        self.script = folder / "poll.lua"
        self.script.write_text(SCRIPT)
        self.failures = []
        # Another benchmark on the same archive must not send the same calls: repeats change no report.
        self.turns = int(time.time())
        day, today = timedelta(days=1), datetime.now(ZONE).date()
        first = min(days[0], today - day)
        live = self.both("live", report_between(first, max(days[1], today + day) + day))
        closed = self.both("closed", report_between(first, today))
        self.urls = {"200": live, "304": closed}

    def require(self, holds, what):
        if not holds:
            self.failures.append(what)

    def ask(self, url, tag=None):
        """One GET, with the ETag of an earlier one."""
        headers = {"Authorization": f"Bearer {self.key}"} | ({"If-None-Match": tag} if tag else {})
        began = time.monotonic()
        try:
            answer = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=600)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            body = answer.read()
        return Answer(answer.status, answer.headers["ETag"], body, time.monotonic() - began)

    def report(self, url):
        answer = self.ask(url)
        assert answer.status == 200 and answer.tag, f"{url} was answered {answer.status}, ETag {answer.tag}: {answer.body[:500]!r}"
        return answer

    def both(self, name, path):
        """Asks for the report, puts its bytes into nginx, and gives where each has it."""
        urls = {"trunklog": self.server.url + path, "nginx": f"{self.peer.url}/{name}.json"}
        first, again = self.report(urls["trunklog"]), self.report(urls["trunklog"])
        print(f"{name} report: {path}\n  {len(json.loads(first.body)['rows'])} rows, {len(first.body)} bytes; "
              f"first asked for {first.seconds * 1000:.1f} ms, again {again.seconds * 1000:.1f} ms", flush=True)
        (self.peer.files / f"{name}.json").write_bytes(first.body)
        assert self.report(urls["nginx"]).body == first.body, "nginx serves something else"
        return urls

    def turn(self, kind, who, connections):
        """Polls while messages come."""
        url = self.urls[kind][who]
        # Nothing is left of what went before.
        self.server.flush()
        time.sleep(1)
        self.turns += 1
        before = self.report(url)
        send = [program("open_loop"), "--address", self.server.url.removeprefix("http://"), "--key", self.key, "--rate", RATE]
        send += ["--connections", SENDERS, "--warm-up", WARM_UP, "--seconds", SECONDS, "--run", self.turns]
        poll = [need("wrk"), "-t2", f"-c{connections}", f"-d{SECONDS}s", "--timeout", "30s", "-s", self.script, "-H", f"Authorization: Bearer {self.key}"]
        poll += ["-H", f"If-None-Match: {before.tag}"] if kind == "304" else []
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(run, send)
            time.sleep(WARM_UP)
            earlier, began = metrics(self.server, COUNTERS), time.monotonic()
            found = run([*poll, url])
            found["computations"], found["requests"] = (now - then for now, then in zip(metrics(self.server, COUNTERS), earlier))
            found["seconds"], found["sent"] = time.monotonic() - began, sending.result()
        self.check(kind, who, f"{kind}, {who}, {connections} connections", found, before, self.ask(url, before.tag).status)
        return found

    def check(self, kind, who, what, found, before, status):
        """Whether this turn was one of its kind; `status` is the answer to the ETag from before it."""
        sent = found["sent"]
        print(f"{what}: {found['rate']:.0f}/s, p99 {found['p99_us'] / 1000:.2f} ms, {found['refused']} not 2xx or 3xx, {found['broken']} broken; "
              f"messages {sent['achieved']:.0f}/s, p99 {sent['p99_us'] / 1000:.2f} ms; counted {found['computations']:.0f} computations, {found['requests']:.0f} requests", flush=True)
        self.require(found["refused"] == found["broken"] == 0, f"{what}: {found['refused']} polls refused, {found['broken']} broken")
        self.require(sent["refused"] == sent["broken"] == 0, f"{what}: {sent['refused']} messages refused, {sent['broken']} broken")
        self.require(sent["achieved"] >= 0.9 * RATE, f"{what}: {sent['achieved']:.0f} messages/s instead of {RATE}")
        changes = who == "trunklog" and kind == "200"
        self.require((found["bytes_each"] < len(before.body)) == (kind == "304"), f"{what}: {found['bytes_each']:.0f} bytes an answer")
        self.require(status == (200 if changes else 304), f"{what}: the ETag from before was answered {status} at the end")
        self.require(found["computations"] <= MOST_COMPUTATIONS, f"{what}: {found['computations']:.0f} computations in {found['seconds']:.1f} s")
        self.require(found["computations"] > 0 or not changes, f"{what}: nothing was computed")
        self.require(found["requests"] > 0 or who == "nginx", f"{what}: no requests were counted")


def measure(poll):
    """Of each kind the results of both, of few connections too, and the canaries."""
    found = {kind: {"trunklog": [], "nginx": []} for kind in poll.urls}
    canaries = [canary()]
    for turn in range(ROUNDS):
        print(f"\nround {turn + 1}")
        for kind, results in found.items():
            for who in list(results)[:: 1 if turn % 2 == 0 else -1]:
                results[who].append(poll.turn(kind, who, CONNECTIONS))
        canaries.append(canary())
    print(f"\nwith {FEW} connections")
    few = {who: [poll.turn("200", who, FEW)] for who in ("trunklog", "nginx")}
    return found, few, canaries


def row(kind, who, connections, results):
    cells = [spread((result["rate"] for result in results), "{:.0f}"), spread(result["p99_us"] / 1000 for result in results)]
    cells += [f"{statistics.median(result['bytes_each'] for result in results):.0f}", str(sum(result["refused"] + result["broken"] for result in results))]
    cells += [spread((result["sent"]["achieved"] for result in results), "{:.0f}"), spread(result["sent"]["p99_us"] / 1000 for result in results)]
    cells += [spread((result[name] / result["seconds"] for result in results), form) for name, form in (("computations", "{:.1f}"), ("requests", "{:.0f}"))]
    print(f"| {kind} | {connections} | {who} | " + " | ".join(cells) + " |")


def tell(found, few, canaries):
    """Prints tables; of each kind the median ratio."""
    print("\n| pollers | connections | who | requests/s | p99 ms | B each | refused or broken | messages/s | ingest p99 ms | computations/s | requests counted/s |")
    print("|" + "---|" * 11)
    medians = {}
    for kind, connections, both in [*((kind, CONNECTIONS, both) for kind, both in found.items()), ("200", FEW, few)]:
        for who, results in both.items():
            row(kind, who, connections, results)
        pairs = list(zip(both["trunklog"], both["nginx"]))
        ratios = [ours["rate"] / max(theirs["rate"], 1) for ours, theirs in pairs]
        print(f"| {kind} | {connections} | trunklog against nginx | {spread(ratios)} | {spread(ours['p99_us'] / max(theirs['p99_us'], 1) for ours, theirs in pairs)} |" + " |" * 6)
        if both is not few:
            medians[kind] = statistics.median(ratios)
    rates = [spread((result["computations"] / result["seconds"] for result in both["trunklog"]), "{:.1f}") for both in (found["200"], few)]
    print(f"\ncomputations/s of the changing report: {rates[0]} for {CONNECTIONS} connections, {rates[1]} for {FEW}")
    print(f"canary between the rounds: {spread(canaries, '{:.3f}')} s (more than 15 % apart: the machine was not quiet)")
    return medians


def main():
    for name in ("open_loop", "fold_bench"):
        program(name)
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.2f}, {ROUNDS} rounds of {SECONDS} s, wrk {need('wrk')} with 2 threads, {RATE} messages/s over {SENDERS} connections, below {tempfile.gettempdir()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="trunklog-bench-") as folder, nginx.Nginx() as peer:
        given = os.environ.get("BENCH_DATA")
        data = Path(given).resolve() if given else Path(folder) / "data"
        if not given:
            run([program("generate"), "--calls", CALLS, "--data-dir", data])
        assert (data / "log").is_dir(), f"{data} is no data directory"
        run([program("fold_bench"), "fold", data])
        with Served(data) as server:
            days = span(server)
        # A new process, which remembers nothing of any file.
        print(f"calls from {days[0]} to {days[1]} in {data}; caches of the kernel {'dropped' if cold() else 'kept'}", flush=True)
        with Served(data) as server:
            wait_until_folded(server)
            poll = Poll(server, peer, Path(folder), days)
            found, few, canaries = measure(poll)
    medians = tell(found, few, canaries)
    print(f"load at the end {os.getloadavg()[0]:.2f}")
    for kind, ratio in medians.items():
        poll.require(ratio >= FLOOR, f"{kind}: {ratio:.2f} of nginx is below the floor of {FLOOR}")
    if poll.failures:
        sys.exit("\n".join(f"FAILED: {failure}" for failure in poll.failures))


if __name__ == "__main__":
    main()
