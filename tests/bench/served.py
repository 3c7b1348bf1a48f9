"""What the benchmarks of calls share: the programs that cargo built, a server on a data directory that is there
already, and tables of medians."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "live"))

from fixture import Server, binary, environment  # noqa: E402


def program(name):
    """A program of the tests' own, which cargo builds beside `trunklog`."""
    path = Path(binary()).parent / name
    if not path.is_file():
        sys.exit(f"FAILED: {path} is not there; `cargo build --release -p trunklog-tests --bins` makes it")
    return str(path)


def run(command, variables=None, **options):
    """The last line of what a program printed, as JSON; its stderr goes through, so that one sees it get on."""
    there = {**environment(), **(variables or {})}
    said = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True, env=there, **options).stdout
    return json.loads(said.strip().splitlines()[-1])


def cold():
    """Forgets what the kernel has cached of files, where that is allowed; says whether it did."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
        return True
    except OSError:
        return False


def canary():
    """Seconds that a fixed piece of work takes on one processor: whether the machine is as it was."""
    import hashlib

    block = bytes(1 << 20)
    began = time.perf_counter()
    for _ in range(200):
        hashlib.sha256(block).digest()
    return time.perf_counter() - began


class Served(Server):
    """`trunklog serve` on this data directory until the `with` block ends. The directory is left as it is."""

    def __init__(self, data):
        self.root, self.data = data.parent, data
        command = [binary(), "serve", "--data-dir", str(data), "--listen", "127.0.0.1:0"]
        command += ["--pg-listen", "off", "--flight-listen", "off"]
        self.log = open(self.root / f"{data.name}.server.log", "a")
        self.began = time.monotonic()
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment(), cwd=self.root)
        self.url = self.admin = None
        for line in self.process.stdout:
            if line.startswith("listening http="):
                self.url = "http://" + line.split("http=", 1)[1].split()[0]
                break
        if self.url is None:
            sys.exit(f"FAILED: the server did not start; see {self.log.name}")

    def __exit__(self, *_):
        self.stop()

    def administer(self):
        """A key that may flush."""
        self.admin = self.run("keys", "create", "--scope", "admin")

    def ready(self):
        """Seconds from the start of the process until it says that it is ready: what it acknowledged is visible."""
        import urllib.error
        import urllib.request

        while True:
            try:
                with urllib.request.urlopen(self.url + "/readyz", timeout=60):
                    return time.monotonic() - self.began
            except urllib.error.HTTPError:
                time.sleep(0.01)

    def first_answer(self, sql):
        """Rows of the first answer and the seconds from the start of the process to it, without a key at hand: over the
        server's own socket."""
        said = self.run("sql", sql, "--format", "json")
        return json.loads(said), time.monotonic() - self.began

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def counters(self, prefix):
        """Sum of the samples of `/metrics` whose names begin so and count something, over their labels."""
        import urllib.request

        with urllib.request.urlopen(self.url + "/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        total = 0.0
        for line in lines:
            name = line.split("{", 1)[0].split(" ", 1)[0]
            if name.startswith(prefix) and name.endswith(("_count", "_total")):
                total += float(line.rsplit(" ", 1)[1])
        return total


def interleave(contenders, rounds, between=lambda: None):
    """Name to the results of its rounds; the order turns from round to round."""
    results = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            results[name].append(contenders[name]())
            between()
    return results


def spread(values, form="{:.2f}"):
    """Median with its extremes."""
    values = list(values)
    middle = form.format(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({form.format(min(values))}–{form.format(max(values))})"
