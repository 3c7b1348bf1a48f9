"""Several trunklog nodes over one topic and one bucket: start, kill, hold up, cut off from the bucket, ask. Needs
TRUNKLOG_TEST_BROKERS and the variables of the S3 server."""

import contextlib
import json
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from urllib.parse import urlsplit

from fixture import binary, environment

PARTITIONS = 3
# Longer than a lease lives that nobody renews, and a start takes on a busy machine.
PATIENCE = 90


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def shared_config(root, *lines):
    """The file that all nodes read."""
    name = f"live-{uuid.uuid4().hex[:8]}"
    brokers = os.environ["TRUNKLOG_TEST_BROKERS"]
    store = [f'store.url = "s3://trunklog/{name}"', f'kafka.brokers = "{brokers}"', f'kafka.topic = "{name}"']
    path = root / "trunklog.toml"
    kafka = [f"kafka.replication = {brokers.count(',') + 1}", f"kafka.partitions = {PARTITIONS}"]
    path.write_text("\n".join([*store, *kafka, *lines, ""]))
    return path


class Cable:
    """The way to the S3 server, which can be cut: what is sent then is swallowed, and nothing comes back. Connections that
    were cut break off when it is whole again."""

    def __init__(self):
        upstream = urlsplit(os.environ["AWS_ENDPOINT_URL"])
        self.upstream, self.is_cut = (upstream.hostname, upstream.port), False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.connect, args=(client,), daemon=True).start()

    def connect(self, client):
        while self.is_cut:
            time.sleep(0.05)
        try:
            server = socket.create_connection(self.upstream)
        except OSError:
            client.close()
            return
        threading.Thread(target=self.pump, args=(client, server), daemon=True).start()
        self.pump(server, client)

    def pump(self, source, target):
        try:
            while data := source.recv(1 << 16):
                if self.is_cut:
                    while self.is_cut:
                        time.sleep(0.05)
                    break
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            # Closing alone would not wake whoever reads from it, nor tell the other side.
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Node:
    def __init__(self, root, name, config, role="all"):
        self.name, self.role, self.config = name, role, config
        self.data, self.port = root / name, free_port()
        self.output, self.errors = root / f"{name}.out", root / f"{name}.err"
        self.data.mkdir(mode=0o700)
        self.url = f"http://127.0.0.1:{self.port}"
        self.process, self.cable = None, Cable()

    def start(self):
        command = [binary(), "serve", "--role", self.role, "--data-dir", self.data, "--config", self.config]
        command += ["--listen", f"127.0.0.1:{self.port}", "--pg-listen", "off", "--flight-listen", "off"]
        variables = environment() | {"AWS_ENDPOINT_URL": self.cable.url}
        with self.output.open("a") as output, self.errors.open("a") as errors:
            self.process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=errors, env=variables)

    def signal(self, how):
        self.process.send_signal(how)

    def ready(self):
        """What /readyz says, or nothing."""
        try:
            return json.loads(self.ask("GET", "/readyz", timeout=2))
        except (OSError, ValueError):
            return {}

    def folds(self):
        """The partitions that it folds; nothing if it does not answer."""
        return self.ready().get("folds", [])

    def until(self, holds, what, patience=PATIENCE):
        deadline = time.monotonic() + patience
        while not holds():
            assert self.process.poll() is None, f"{self.name}, {what}: it ended: {self.errors.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"{self.name}, {what}: not within {patience} s: {self.errors.read_text()[-2000:]}"
            time.sleep(0.05)

    def ask(self, method, path, key=None, body=None, kind="application/json", accept="application/json", timeout=60):
        headers = {"accept": accept} | ({"content-type": kind} if body is not None else {})
        headers |= {"authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(self.url + path, data=body, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.read()

    def patiently(self, *arguments, **more):
        """Asks until there is an answer: what an operator does while servers are away."""
        deadline = time.monotonic() + 300
        while True:
            try:
                return self.ask(*arguments, **more)
            except OSError as error:
                code, said = getattr(error, "code", None), error.read() if isinstance(error, urllib.error.HTTPError) else error
                assert code in (None, 503), f"{self.name} {arguments}: {code} {said}"
                assert time.monotonic() < deadline, f"{self.name} {arguments}: {said}"
                time.sleep(0.5)

    def run(self, *arguments):
        command = [binary(), *arguments, "--data-dir", self.data, "--config", self.config]
        done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
        assert done.returncode == 0, f"{self.name} {arguments}: {done.stderr[-2000:]}"
        return done.stdout.strip()

    def rows(self, key, sql):
        """The answer's rows as objects."""
        body = json.dumps({"sql": sql}).encode()
        text = self.patiently("POST", "/v1/sql", key=key, body=body, accept="application/x-ndjson", timeout=300)
        return [json.loads(line) for line in text.splitlines()]


def admin_key(nodes):
    """The first node that started made it and showed it."""
    for node in nodes:
        for line in node.output.read_text().splitlines():
            if line.startswith("admin key: "):
                return line.split(": ", 1)[1]
    raise AssertionError("no node made the administrator's key")


def end(nodes):
    for node in nodes:
        if node.process and node.process.poll() is None:
            node.process.kill()
            node.process.wait()
