"""Two nodes over the same topic and bucket: one works, one waits. While senders go on, the working one is stopped, killed
or held up in turn, and the other takes over. Every acknowledged message is there once in the end, every call as it was
sent, and a node that was held up commits nothing more and ends. Run by on_kafka.sh, with TRUNKLOG_TEST_BROKERS.

TRUNKLOG_TAKEOVERS (6; the full run 200) is how often."""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

from fixture import binary, environment, size

TAKEOVERS = size("TRUNKLOG_TAKEOVERS", 6)
SENDERS = 8
# Longer than a lease lives that nobody renews.
PATIENCE = 60


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Node:
    def __init__(self, root, name, config):
        self.data, self.port, self.config = root / name, free_port(), config
        self.output, self.errors = root / f"{name}.out", root / f"{name}.err"
        self.data.mkdir(mode=0o700)
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        command = [binary(), "serve", "--data-dir", self.data, "--config", self.config, "--listen", f"127.0.0.1:{self.port}"]
        command += ["--pg-listen", "off", "--flight-listen", "off"]
        self.output.write_text("")
        with self.output.open("w") as output, self.errors.open("a") as errors:
            self.process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=errors, env=environment())

    def works(self):
        return "listening" in self.output.read_text()

    def wait_until_it_works(self, what):
        deadline = time.monotonic() + PATIENCE
        while not self.works():
            assert self.process.poll() is None, f"{what}: it ended: {self.errors.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"{what}: not within {PATIENCE} s: {self.errors.read_text()[-2000:]}"
            time.sleep(0.05)

    def run(self, *arguments):
        command = [binary(), *arguments, "--data-dir", self.data, "--config", self.config]
        return subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True, env=environment()).stdout.strip()


class Senders:
    """Each sends call after call, three messages one after the other, to whichever node takes them."""

    def __init__(self, nodes, key):
        self.nodes, self.key = nodes, key
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
                self.until_acknowledged(f"{form}&call_id={key}")
            with self.lock:
                self.sent.append(key)
            call += 1

    def until_acknowledged(self, form):
        place = 0
        while True:
            url = f"{self.nodes[place % 2].url}/in/{self.key}/placetel"
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


def take_over(working, waiting, how):
    """Ends the working node in one way or another; gives the seconds until the other one works."""
    assert not waiting.works(), "both work at once"
    began = time.monotonic()
    working.process.send_signal(how)
    waiting.wait_until_it_works(f"after {how.name}")
    taken = time.monotonic() - began
    if how == signal.SIGSTOP:
        working.process.send_signal(signal.SIGCONT)
    status = working.process.wait(PATIENCE)
    expected = {signal.SIGTERM: 0, signal.SIGKILL: -signal.SIGKILL, signal.SIGSTOP: 2}
    assert status == expected[how] or how == signal.SIGSTOP and status > 0, f"{how.name}: it ended with {status}"
    working.start()
    return taken


def rows(node, sql):
    output = node.run("sql", sql, "--format", "csv").splitlines()
    return [line.split(",") for line in output[1:]]


def check(root):
    name = f"takeover-{uuid.uuid4().hex[:8]}"
    brokers = os.environ["TRUNKLOG_TEST_BROKERS"]
    config = root / "trunklog.toml"
    copies = brokers.count(",") + 1
    lines = [f'store.url = "s3://trunklog/{name}"', f'kafka.brokers = "{brokers}"', f'kafka.topic = "{name}"', f"kafka.replication = {copies}"]
    config.write_text("\n".join([*lines, 'fold.interval = "500ms"', ""]))
    working, waiting = nodes = [Node(root, "one", config), Node(root, "two", config)]
    working.start()
    working.wait_until_it_works("the first node")
    key = working.run("keys", "create", "--tenant", "acme", "--scope", "ingest:*", "--scope", "query")
    for node in nodes[1:]:
        shutil.copy(working.data / "keys.json", node.data)
    waiting.start()
    senders = Senders(nodes, key)
    times = {}
    for number in range(TAKEOVERS):
        time.sleep(random.uniform(0.3, 2.5))
        # A lease that is given back is taken at once; one that is not is waited for, so less often.
        every = 6 if TAKEOVERS <= 30 else 30
        how = {0: signal.SIGKILL, every // 2: signal.SIGSTOP}.get(number % every, signal.SIGTERM)
        times.setdefault(how.name, []).append(take_over(working, waiting, how))
        working, waiting = waiting, working
    sent = senders.finish()
    working.run("flush")
    calls = rows(working, "SELECT count(*), count(DISTINCT call_id), count(*) FILTER (WHERE state = 'closed' AND disposition = 'answered') FROM calls")
    assert calls == [[str(len(sent))] * 3], f"{len(sent)} calls were sent, there are {calls}"
    messages = rows(working, "SELECT count(*) FILTER (WHERE duplicate_of IS NULL), count(*), count(DISTINCT \"offset\") FROM events")
    first, stored, offsets = map(int, messages[0])
    assert first == 3 * len(sent) and stored == offsets, f"{3 * len(sent)} messages were sent: {messages}"
    assert stored <= 3 * len(sent) + senders.retries, f"more messages than were sent: {messages}, {senders.retries} retries"
    before = working.run("verify", "--hash")
    working.run("rebuild")
    before, after = [re.findall(r"[0-9a-f]{64}", text) for text in (before, working.run("verify", "--hash"))]
    assert len(before) > 1 and after == before, f"a rebuild gives other rows: {before}, {after}"
    for node in nodes:
        node.process.kill()
        node.process.wait()
    waited = ", ".join(f"{name} {len(taken)} times, {max(taken):.1f} s at most" for name, taken in times.items())
    print(f"takeover: {len(sent)} calls over {TAKEOVERS} takeovers ({waited}), {stored - first} duplicates, {senders.retries} retries: each call once, as sent")


root = Path(tempfile.mkdtemp(prefix="trunklog-takeover-"))
try:
    check(root)
    shutil.rmtree(root, ignore_errors=True)
except (AssertionError, subprocess.CalledProcessError) as error:
    sys.exit(f"FAILED: {error}; the nodes' folders are kept: {root}")
