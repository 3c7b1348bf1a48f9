"""Runs the server under strace and checks two promises in what the kernel saw.

1. Before the first byte of a 2xx that stored something is written to its socket, the log was written and an
   fdatasync of it that began after that write has completed.
2. Before a segment of the log is recycled or unlinked, every file that was made below `tables/` is synced, and so is
   its directory."""

import bisect
import os
import re
import sys
from pathlib import Path

from fixture import Server, need, size, wait

CALLS = "openat,creat,read,recvfrom,recvmsg,write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat"
LINE = re.compile(r"^(?P<pid>\d+)\s+(?P<at>\d+\.\d+) (?P<rest>.*)$")
BEGUN = re.compile(r"^(?P<call>\w+)\((?P<arguments>.*)$")
RESUMED = re.compile(r"^<\.\.\. (?P<call>\w+) resumed>(?P<arguments>.*)$")
RESULT = re.compile(r"\)\s*= (?P<result>-?\w+)(?:<[^>]*>)?[^=]*<(?P<took>\d+\.\d+)>$")
DESCRIPTOR = re.compile(r"^(?P<number>\d+)<(?P<target>.*?)>(?=[,)])")


class Call:
    """One system call: name, arguments, when it began and when it was over."""

    def __init__(self, name, arguments, began, ended, result):
        self.name, self.arguments, self.began, self.ended = name, arguments, began, ended
        self.failed = result.startswith("-")
        found = DESCRIPTOR.match(arguments)
        self.target = found["target"] if found else ""


def calls(lines):
    """The calls of a trace of several threads, in the order in which they ended."""
    waiting = {}
    for line in lines:
        found = LINE.match(line)
        if not found:
            continue
        pid, at, rest = found["pid"], float(found["at"]), found["rest"]
        resumed = RESUMED.match(rest)
        if resumed:
            if pid not in waiting:
                continue
            name, arguments, began = waiting.pop(pid)
            arguments += resumed["arguments"]
        else:
            begun = BEGUN.match(rest)
            if not begun:
                continue
            name, arguments, began = begun["call"], begun["arguments"], at
            if arguments.endswith("<unfinished ...>"):
                waiting[pid] = (name, arguments.removesuffix("<unfinished ...>").rstrip(), began)
                continue
        result = RESULT.search(arguments)
        if result:
            yield Call(name, arguments, began, began + float(result["took"]), result["result"])


def is_socket(target):
    return target.startswith(("TCP:", "socket:"))


def check_answers(trace, log):
    """Promise 1. Gives how many answers were checked."""
    writes = sorted(call.ended for call in trace if "write" in call.name and call.target.startswith(log) and not call.failed)
    syncs = sorted((call.began, call.ended) for call in trace if call.name == "fdatasync" and call.target.startswith(log) and not call.failed)
    begun = [began for began, _ in syncs]
    request_at, checked = {}, 0
    for call in sorted(trace, key=lambda call: call.began):
        if not is_socket(call.target):
            continue
        if call.name in ("read", "recvfrom", "recvmsg") and re.search(r'"(POST|GET|PUT) /in/', call.arguments):
            request_at[call.target] = call.began
        stored = "HTTP/1.1 2" in call.arguments and "trunklog-offset" in call.arguments.lower()
        if call.name in ("write", "writev", "sendto", "sendmsg") and stored:
            asked = request_at[call.target]
            write = bisect.bisect_left(writes, asked)
            assert write < len(writes) and writes[write] <= call.began, f"answered at {call.began:.6f} without a write to the log since {asked:.6f}"
            sync = bisect.bisect_left(begun, writes[write])
            completed = any(ended <= call.began for _, ended in syncs[sync:sync + 64] )
            assert completed, f"answered at {call.began:.6f}, but no fdatasync begun after the write at {writes[write]:.6f} was over"
            checked += 1
    return checked


def paths(call):
    """The quoted paths of a rename, link or unlink, made absolute by the descriptor in front of each."""
    found = []
    for match in re.finditer(r'(?:(?:AT_FDCWD|\d+)(?:<([^>]*)>)?, )?"((?:[^"\\]|\\.)*)"', call.arguments):
        folder, name = match.group(1) or "", match.group(2)
        found.append(name if name.startswith("/") else os.path.normpath(os.path.join(folder, name)))
    return found


def check_trimming(trace, log, tables):
    """Promise 2. Gives how often the log was trimmed and how many files were synced before."""
    unsynced, folders, trimmed, synced = {}, {}, 0, set()
    for call in sorted(trace, key=lambda call: call.ended):
        if call.failed:
            continue
        if call.name in ("openat", "creat") and "O_CREAT" in call.arguments:
            for path in paths(call):
                if path.startswith(tables) and "O_DIRECTORY" not in call.arguments:
                    unsynced[path] = call.ended
                    folders[os.path.dirname(path)] = call.ended
        elif "write" in call.name and call.target.startswith(tables):
            unsynced[call.target] = call.ended
        elif call.name in ("fsync", "fdatasync"):
            if unsynced.pop(call.target, None) is not None:
                synced.add(call.target)
            folders.pop(call.target, None)
        elif call.name.startswith(("rename", "link")):
            names = paths(call)
            if len(names) == 2 and names[1].startswith(tables):
                if names[0] in unsynced:
                    unsynced[names[1]] = unsynced.pop(names[0]) if call.name.startswith("rename") else unsynced[names[0]]
                folders[os.path.dirname(names[1])] = call.ended
            # A segment's name is taken away when it is recycled; a spare that becomes a segment trims nothing.
            if names and names[0].startswith(log) and names[0].endswith(".seg"):
                trimmed += check_clean(call, unsynced, folders)
        elif call.name.startswith("unlink"):
            for name in paths(call):
                unsynced.pop(name, None)
                if name.startswith(log) and name.endswith(".seg"):
                    trimmed += check_clean(call, unsynced, folders)
    return trimmed, len(synced)


def check_clean(call, unsynced, folders):
    dirty = [path for path, since in unsynced.items() if since < call.began]
    open_folders = [path for path, since in folders.items() if since < call.began]
    assert not dirty, f"the log was trimmed ({call.name}({call.arguments[:160]}) before these were synced: {dirty}"
    assert not open_folders, f"the log was trimmed ({call.name}({call.arguments[:160]}) before these directories were synced: {open_folders}"
    return 1


def main():
    strace = need("strace")
    # Small segments, so that the log is trimmed; folds only when asked, so that one is over before the next begins.
    config = '[log]\nsegment_bytes = "20 MiB"\n[fold]\ninterval = "1h"\nbytes = "256 MiB"\n'
    wrapper = [strace, "-f", "-ttt", "-T", "-yy", "-s", "600", "-e", f"trace={CALLS}", "-o", "trace.txt"]
    with Server(config, wrapper=wrapper) as server:
        key = server.key("acme", "ingest:*")
        for part in range(3):
            calls_of_part = size("TRUNKLOG_TRACE_CALLS", 900) // 3
            sending = server.simulate(key, "--calls", calls_of_part, "--seed", 70 + part)
            wait(sending, 900, "the simulation")
            for number in range(30):
                # Long messages fill a segment, so that there is one to trim.
                filler = "x" * 900_000
                form = f"event=IncomingCall&from=1&to=2&call_id=long-{part}-{number}&filler={filler}"
                server.post("/in/placetel", key, form.encode(), "application/x-www-form-urlencoded")
            server.flush()
        # strace passes no signal on; the server is its child.
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), 15)
        server.process.wait(120)
        data = os.path.realpath(server.data)
        with open(server.root / "trace.txt", errors="replace") as lines:
            trace = list(calls(lines))
        checked = check_answers(trace, data + "/log/")
        trimmed, synced = check_trimming(trace, data + "/log/", data + "/tables/")
        assert checked > 100, f"only {checked} answers were seen"
        assert synced > 5, f"only {synced} synced files were seen below tables/"
        assert trimmed > 0, "the log was never trimmed, so nothing was shown"
        print(f"trace: {checked} answers came after their fdatasync; the log was trimmed {trimmed} times, after {synced} table files were synced")


try:
    main()
except AssertionError as error:
    sys.exit(f"FAILED: {error}")
