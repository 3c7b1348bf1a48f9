"""Runs the commands of the README's five-minute tour as they are printed and looks at what they print.

Only the data directory is another than a reader's, by TRUNKLOG_DATA_DIR, so that none is left in the repository."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from fixture import REPOSITORY, environment, need

START_SECONDS = 3600  # a first build


def blocks(text, title):
    """The `sh` blocks of a section, each with the `text` block that follows it, if there is one."""
    section = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", text, re.S | re.M)
    if section is None:
        sys.exit(f"FAILED: README.md has no section `{title}`")
    return re.findall(r"```sh\n(.*?)```(?:\s*```text\n(.*?)```)?", section.group(1), re.S)


def start(command, settings):
    server = subprocess.Popen(["bash", "-c", command], stdout=subprocess.PIPE, text=True, env=settings, cwd=REPOSITORY, start_new_session=True)
    deadline = time.monotonic() + START_SECONDS
    for line in server.stdout:
        print("   ", line.rstrip())
        if line.startswith("listening http=127.0.0.1:8080"):
            return server
        if time.monotonic() > deadline:
            break
    sys.exit("FAILED: the first command did not come to listen on 127.0.0.1:8080")


def stop(server):
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(120)


def check(command, expected, settings):
    """Every line of the printed answer, in order; `…` in it stands for anything."""
    result = subprocess.run(["bash", "-euo", "pipefail", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings, cwd=REPOSITORY)
    print("   ", result.stdout.strip().replace("\n", "\n    "))
    if result.returncode != 0:
        sys.exit(f"FAILED: {result.returncode} from\n{command}\n{result.stderr}")
    pattern = r"\s+.*?".join(re.escape(line.strip()).replace("…", ".*?") for line in expected.strip().splitlines())
    if expected and not re.search(pattern, result.stdout, re.S):
        sys.exit(f"FAILED: the README says\n{expected}\nbut\n{command}\nprinted\n{result.stdout}\n{result.stderr}")


def main():
    for program in ("cargo", "curl", "bash"):
        need(program)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 8080))
        except OSError:
            sys.exit("FAILED: port 8080 is taken, and the tour needs it")
    commands = blocks((REPOSITORY / "README.md").read_text(), "Five minutes")
    if len(commands) < 5:
        sys.exit("FAILED: the tour has fewer than five commands")
    folder = tempfile.mkdtemp(prefix="trunklog-readme-")
    settings = dict(environment(), TRUNKLOG_DATA_DIR=folder + "/data")
    server = start(commands[0][0], settings)
    try:
        # The second terminal keeps its variables from one command to the next.
        said = ""
        for command, expected in commands[1:]:
            print("$", command.strip().replace("\n", "\n  "))
            check(said + command, expected, settings)
            said += "".join(line + "\n" for line in command.splitlines() if re.match(r"[A-Z]+=", line))
    finally:
        stop(server)
        shutil.rmtree(folder, ignore_errors=True)
    print(f"readme: {len(commands)} commands worked as printed")


main()
