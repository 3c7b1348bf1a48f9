"""A trunklog server of one's own for the live suites: start, keys, requests, the simulator. Only Python's own library."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def need(program):
    """The path of a program; without it the suite fails."""
    path = shutil.which(program)
    if path is None:
        sys.exit(f"FAILED: `{program}` is not installed, and this suite cannot be skipped")
    return path


def binary():
    target = os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target"
    path = Path(os.environ.get("TRUNKLOG_BIN") or Path(target) / "release" / "trunklog")
    if not path.is_file():
        sys.exit(f"FAILED: {path} is not there; build it, or set TRUNKLOG_BIN")
    return str(path)


def environment():
    """Without TRUNKLOG_…, which is configuration to the binary and test sizes to us."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TRUNKLOG_")}


def size(variable, everyday):
    return int(os.environ.get(variable, everyday))


class Server:
    """Runs until the `with` block ends."""

    def __init__(self, config="", files=(), wrapper=()):
        self.root = Path(tempfile.mkdtemp(prefix="trunklog-live-"))
        self.data = self.root / "data"
        for name, text in files:
            (self.root / name).write_text(text)
        file = self.root / "trunklog.toml"
        file.write_text(config.replace("{root}", str(self.root)))
        command = [*wrapper, binary(), "serve", "--data-dir", str(self.data), "--listen", "127.0.0.1:0"]
        command += ["--pg-listen", "off", "--flight-listen", "off", "--config", str(file)]
        self.log = open(self.root / "server.log", "w")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment(), cwd=self.root)
        self.admin = self.url = None
        for line in self.process.stdout:
            if line.startswith("admin key: "):
                self.admin = line.split(": ", 1)[1].strip()
            if line.startswith("listening http="):
                self.url = "http://" + line.split("http=", 1)[1].split()[0]
                return
        sys.exit("FAILED: the server did not start:\n" + (self.root / "server.log").read_text())

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.stop()
        if kind is None:
            shutil.rmtree(self.root, ignore_errors=True)
        else:
            print(f"the server's folder is kept: {self.root}", file=sys.stderr)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(120)
        self.log.close()

    def run(self, *arguments):
        command = [binary(), *arguments, "--data-dir", str(self.data)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment(), cwd=self.root).stdout.strip()

    def key(self, tenant, *scopes):
        return self.run("keys", "create", "--tenant", tenant, *[word for scope in scopes for word in ("--scope", scope)])

    def post(self, path, key, body=b"", kind="application/json", accept="application/json"):
        headers = {"authorization": f"Bearer {key}", "content-type": kind, "accept": accept}
        request = urllib.request.Request(self.url + path, data=body, headers=headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=300) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"POST {path}: {error.code} {error.read()[:2000]!r}") from None

    def sql(self, key, sql, params=(), as_of=None, accept="application/json"):
        question = {"sql": sql, "params": list(params)}
        if as_of is not None:
            question["as_of"] = as_of
        body = self.post("/v1/sql", key, json.dumps(question).encode(), accept=accept)
        return json.loads(body) if accept == "application/json" else body

    def flush(self):
        return int(json.loads(self.post("/v1/admin/flush", self.admin))["offset"])

    def simulate(self, key, *arguments):
        """Starts `trunklog simulate` and gives the process."""
        command = [binary(), "simulate", "--url", self.url, "--key", key, *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(), cwd=self.root)


def wait(process, seconds, what):
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > deadline:
            process.kill()
            sys.exit(f"FAILED: {what} did not end within {seconds} s")
        time.sleep(0.1)
    if process.returncode != 0:
        sys.exit(f"FAILED: {what} ended with {process.returncode}")
