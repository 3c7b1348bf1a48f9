"""Two nodes over the same topic of three partitions and bucket; one folds, both take messages and answer. While senders go
on, the one that folds hands over, is stopped, killed, held up, or cut off from the bucket, and the other goes on. Every acknowledged message
is there once in the end, every call as it was sent, and a rebuild gives the same rows. Run by on_kafka.sh, with
TRUNKLOG_TEST_BROKERS.

TRUNKLOG_TAKEOVERS (10; the full run 200) is how often."""

import json
import random
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from fixture import size
from nodes import PARTITIONS, PATIENCE, Node, admin_key, end, shared_config

TAKEOVERS = size("TRUNKLOG_TAKEOVERS", 10)
SENDERS = 8
# There are some in every partition.
TENANTS = [f"tenant-{number}" for number in range(SENDERS)]
ALL = list(range(PARTITIONS))


class Senders:
    """Each sends call after call, three messages one after the other, to whichever node takes them."""

    def __init__(self, nodes, keys):
        self.nodes, self.keys = nodes, keys
        self.stop = threading.Event()
        self.sent, self.retries = [], 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.send, args=(number,), daemon=True) for number in range(SENDERS)]
        for thread in self.threads:
            thread.start()

    def send(self, number):
        call = 0
        while not self.stop.is_set():
            key = f"call-{number}-{call}"
            numbers = "from=493012345&to=493098765&direction=in"
            for form in (f"event=IncomingCall&{numbers}", "event=CallAccepted&peer=7777aaaaaaa%40fpbx.de", "event=HungUp&type=accepted&duration=7"):
                self.until_acknowledged(number, f"{form}&call_id={key}")
            with self.lock:
                self.sent.append(key)
            call += 1

    def until_acknowledged(self, place, form):
        key = self.keys[place % len(self.keys)]
        while True:
            url = f"{self.nodes[place % 2].url}/in/{key}/placetel"
            try:
                with urllib.request.urlopen(urllib.request.Request(url, form.encode(), method="POST"), timeout=15):
                    return
            except (urllib.error.URLError, OSError) as error:
                code = getattr(error, "code", None)
                assert code in (None, 503), f"refused with {code}"
                with self.lock:
                    self.retries += 1
                place += 1
                time.sleep(0.02)

    def finish(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(120)
            assert not thread.is_alive(), "a sender was never acknowledged"
        return self.sent


def take_over(leading, other, how, admin):
    """Ends the leading in one way or another; gives the seconds until the other one leads."""
    assert not other.folds(), "both fold at once"
    began = time.monotonic()
    match how:
        case "stopped":
            leading.signal(signal.SIGTERM)
            # A request that gets no answer is given up after half a minute, and some may come one after the other.
            assert leading.process.wait(3 * PATIENCE) == 0, leading.errors.read_text()[-2000:]
        case "killed":
            leading.signal(signal.SIGKILL)
            leading.process.wait()
        case "held up":
            leading.signal(signal.SIGSTOP)
        case "cut off":
            leading.cable.is_cut = True

    def has_all():
        # What the other one does not take in time comes back, and is handed over again.
        if how == "handed over" and leading.folds():
            try:
                leading.ask("POST", "/v1/admin/handover", key=admin)
            except OSError:
                pass  # It folds no more, or the bucket is away.
        return other.folds() == ALL

    other.until(has_all, f"after the first one was {how}")
    taken = time.monotonic() - began
    match how:
        case "stopped" | "killed":
            leading.start()
        case "held up":
            leading.signal(signal.SIGCONT)
        case "cut off":
            leading.cable.is_cut = False
    leading.until(lambda: leading.ready().get("folds") == [], f"after it was {how}")
    return taken


def share_settings(one, other, admin):
    """What is put on one node is in force on all, and commands without a server know it."""
    settings = b'[tenants.of-all]\ntime_zone = "Asia/Tokyo"\n'
    one.ask("PUT", "/v1/admin/settings", key=admin, body=settings)
    other.until(lambda: other.ask("GET", "/v1/admin/settings", key=admin) == settings, "until it has the settings")
    end([other])
    shown = other.run("config")
    assert 'tenants.of-all.time_zone = "Asia/Tokyo"  # config/settings.toml' in shown, shown
    for method, path in (("POST", "handover?partition=9"), ("GET", "settings?which=all"), ("PUT", "settings?which=all")):
        try:
            raise AssertionError(f"{method} {path}: {one.ask(method, f'/v1/admin/{path}', key=admin, body=b'')}")
        except OSError as refused:
            assert refused.code == 400, f"{method} {path}: {refused}"


def check(root):
    config = shared_config(root, 'fold.interval = "500ms"')
    leading, other = nodes = [Node(root, name, config) for name in ("one", "two")]
    try:
        for node in nodes:
            node.start()
            node.until(node.ready, "at the start")
        admin = admin_key(nodes)
        keys = [leading.run("keys", "create", "--tenant", tenant, "--scope", "ingest:*") for tenant in TENANTS]
        other.until(lambda: time.sleep(1.5) or True, "until both know the keys")
        senders = Senders(nodes, keys)
        times = {}
        for number in range(TAKEOVERS):
            time.sleep(random.uniform(0.1, 1.0))
            # A lease that is given back is taken at once; one that is not is waited for, so less often.
            every = 10 if TAKEOVERS <= 30 else 40
            rare = {0: "killed", every // 4: "held up", every // 2: "cut off", every * 3 // 4: "stopped"}
            how = rare.get(number % every, "handed over")
            times.setdefault(how, []).append(take_over(leading, other, how, admin))
            leading, other = other, leading
        sent = senders.finish()
        flushed = json.loads(other.patiently("POST", "/v1/admin/flush", key=admin, timeout=300))["offset"]
        assert re.fullmatch(r"0:\d+,1:\d+,2:\d+", flushed), f"flushed up to {flushed}"
        [calls] = other.rows(admin, "SELECT count(*) AS calls, count(DISTINCT call_id) AS ids, count(*) FILTER (WHERE state = 'closed' AND disposition = 'answered') AS answered FROM calls")
        assert list(calls.values()) == [len(sent)] * 3, f"{len(sent)} calls were sent, there are {calls}"
        [events] = leading.rows(admin, 'SELECT count(*) FILTER (WHERE duplicate_of IS NULL) AS firsts, count(*) AS stored, count(DISTINCT "partition" * 1000000000 + "offset") AS offsets FROM events')
        firsts, stored, offsets = events.values()
        assert firsts == 3 * len(sent) and stored == offsets, f"{3 * len(sent)} messages were sent: {events}"
        assert stored <= 3 * len(sent) + senders.retries, f"more messages than were sent: {events}, {senders.retries} retries"
        hashes = [re.findall(r"[0-9a-f]{64}", node.run("verify", "--hash")) for node in nodes]
        assert len(hashes[0]) > 1 and hashes[0] == hashes[1], f"the nodes differ: {hashes}"
        leading.run("rebuild")
        again = re.findall(r"[0-9a-f]{64}", leading.run("verify", "--hash"))
        assert again == hashes[0], f"a rebuild gives other rows: {hashes[0]}, {again}"
        share_settings(leading, other, admin)
    finally:
        end(nodes)
    waited = ", ".join(f"{how} {len(taken)} times, {max(taken):.1f} s at most" for how, taken in times.items())
    print(f"takeover: {len(sent)} calls over {TAKEOVERS} takeovers ({waited}), {stored - firsts} duplicates, {senders.retries} retries: each call once, as sent")


root = Path(tempfile.mkdtemp(prefix="trunklog-takeover-"))
try:
    check(root)
    shutil.rmtree(root, ignore_errors=True)
except AssertionError as error:
    sys.exit(f"FAILED: {error}; the nodes' folders are kept: {root}")
