"""Memory of uploads: one large upload, and many slow ones in parallel, must cost at most 512 KiB each on top of the idle
server. The same goes to nginx's WebDAV PUT (which acknowledges without a sync) on the same disk. What was stored is
read back and compared by its hash.

TRUNKLOG_BIG_BYTES (64 MiB; the full run and the benchmark take 4 GiB) and TRUNKLOG_SLOW_UPLOADS (200; 1000) are sizes."""

import asyncio
import hashlib
import http.client
import resource
import sys
import time
from pathlib import Path

from fixture import Server, size
from nginx import Nginx

KIB = 1024
BIG = size("TRUNKLOG_BIG_BYTES", 64 * KIB * KIB)
SLOW = size("TRUNKLOG_SLOW_UPLOADS", 200)
SLOW_BYTES = 256 * KIB
PIECE = 8 * KIB
PAUSE_SECONDS = 0.1
LIMIT_KIB = 512
# One upload cannot be told from what the allocator and threads of the background happen to hold.
NOISE_KIB = 16 * KIB
BLOCK = hashlib.sha512(b"block").digest() * (KIB * KIB // 64)


def family(process):
    """The process and its children (nginx's workers)."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *map(int, children)]


def memory_kib(process, field):
    total = 0
    for member in family(process):
        for line in Path(f"/proc/{member}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                total += int(line.split()[1])
    return total


def reset_peak(process):
    for member in family(process):
        Path(f"/proc/{member}/clear_refs").write_text("5")


class Peer:
    """A server that takes uploads: where they go, and whose memory counts."""

    def __init__(self, name, address, process, target, headers):
        self.name, self.address, self.process = name, address, process
        self.target, self.headers = target, headers

    def path(self, name):
        return self.target.replace("NAME", name)


def big_upload(peer, length):
    """Sends `length` bytes as fast as they are taken; gives seconds and the SHA-256 of what was sent."""

    def blocks():
        left = length
        while left:
            piece = BLOCK[: min(left, len(BLOCK))]
            left -= len(piece)
            digest.update(piece)
            yield piece

    digest = hashlib.sha256()
    connection = http.client.HTTPConnection(*peer.address, timeout=3600)
    began = time.monotonic()
    headers = {**peer.headers, "Content-Length": str(length), "Content-Type": "audio/wav"}
    connection.request("PUT", peer.path("big"), blocks(), headers)
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status in (201, 204), f"{peer.name}: the large upload is answered {answer.status}: {said[:500]!r}"
    return time.monotonic() - began, digest.hexdigest()


def downloaded(peer, path):
    """SHA-256 of what is stored, read piece by piece."""
    connection = http.client.HTTPConnection(*peer.address, timeout=3600)
    connection.request("GET", path, headers=peer.headers)
    answer = connection.getresponse()
    assert answer.status == 200, f"{peer.name}: {answer.status} {answer.read()[:500]!r}"
    digest = hashlib.sha256()
    while piece := answer.read(KIB * KIB):
        digest.update(piece)
    return digest.hexdigest()


def slow_body(number):
    seed = hashlib.sha256(str(number).encode()).digest()
    return seed * (SLOW_BYTES // len(seed))


async def slow_upload(peer, number, opened, gate):
    """Sends a quarter, waits for all others to be as far, then goes on piece by piece."""
    reader, writer = await asyncio.open_connection(*peer.address)
    lines = [f"PUT {peer.path(f'slow-{number}')} HTTP/1.1", "Host: h", "Connection: close", "Content-Type: audio/wav"]
    lines += [f"Content-Length: {SLOW_BYTES}", *[f"{name}: {value}" for name, value in peer.headers.items()]]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    body = slow_body(number)
    sent = 0
    while sent < SLOW_BYTES:
        writer.write(body[sent : sent + PIECE])
        await writer.drain()
        sent += PIECE
        if sent == SLOW_BYTES // 4:
            opened.release()
            await gate.wait()
        await asyncio.sleep(PAUSE_SECONDS)
    answer = await asyncio.wait_for(reader.read(), 300)
    writer.close()
    return int(answer.split(b" ", 2)[1]) if answer else 0


async def slow_uploads(peer, count):
    """All at once; gives resident KiB while every one of them is half done."""
    opened, gate = asyncio.Semaphore(0), asyncio.Event()
    uploads = [asyncio.create_task(slow_upload(peer, number, opened, gate)) for number in range(count)]
    for _ in range(count):
        await asyncio.wait_for(opened.acquire(), 300)
    gate.set()
    await asyncio.sleep(SLOW_BYTES / PIECE / 4 * PAUSE_SECONDS)
    during = memory_kib(peer.process, "VmRSS")
    statuses = await asyncio.gather(*uploads)
    refused = [status for status in statuses if status not in (201, 204)]
    assert not refused, f"{peer.name}: {len(refused)} of {count} slow uploads were answered {set(refused)}"
    return during


def settle(peer):
    """Resident KiB once it no longer falls."""
    last = memory_kib(peer.process, "VmRSS")
    for _ in range(20):
        time.sleep(0.5)
        now = memory_kib(peer.process, "VmRSS")
        if now >= last - 256:
            return now
        last = now
    return last


def measure(peer):
    # Buffers that are made once belong to the idle server.
    big_upload(Peer(peer.name, peer.address, peer.process, peer.target.replace("NAME", "warm-NAME"), peer.headers), 8 * KIB * KIB)
    idle = settle(peer)
    reset_peak(peer.process)
    seconds, sent = big_upload(peer, BIG)
    big_peak = memory_kib(peer.process, "VmHWM")
    after_big = settle(peer)
    reset_peak(peer.process)
    during = asyncio.run(slow_uploads(peer, SLOW))
    slow_peak = max(during, memory_kib(peer.process, "VmHWM"))
    after = settle(peer)
    rate = BIG / seconds / 1e6
    print(f"uploads: {peer.name}: one of {BIG / KIB / KIB:.0f} MiB at {rate:.0f} MB/s: idle {idle} KiB, peak {big_peak} KiB, after {after_big} KiB: +{big_peak - idle} KiB")
    each = (slow_peak - after_big) / SLOW
    print(f"uploads: {peer.name}: {SLOW} slow ones: idle {after_big} KiB, during {during} KiB, peak {slow_peak} KiB, after {after} KiB: {each:.1f} KiB each")
    return big_peak - idle, each, sent


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * SLOW + 1024
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted, hard))
    with Server() as server, Nginx() as nginx:
        ingest = server.key("acme", "ingest:*")
        query = server.key("acme", "query")
        address = tuple(server.url.removeprefix("http://").split(":"))
        headers = {"Authorization": f"Bearer {ingest}"}
        ours = Peer("trunklog", address, server.process.pid, "/in/kazoo/recordings/call_recording_NAME%40h.wav", headers)
        theirs = Peer("nginx dav (no sync)", nginx.address, nginx.process.pid, "/rec/NAME.wav", {})
        growth, each, sent = measure(ours)
        assert downloaded(ours, ours.path("big")) == sent, "the large recording came back otherwise"
        for number in (0, SLOW // 2, SLOW - 1):
            path = ours.path(f"slow-{number}")
            assert downloaded(ours, path) == hashlib.sha256(slow_body(number)).hexdigest(), f"{path} came back otherwise"
        count = server.sql(query, "SELECT count(*), sum(bytes) FROM recordings")["rows"][0]
        assert count == [SLOW + 2, SLOW * SLOW_BYTES + BIG + 8 * KIB * KIB], f"recordings: {count}"
        left = list((server.data / "objects" / ".tmp").iterdir())
        assert not left, f"left in objects/.tmp: {left}"
        measure(theirs)
    assert each <= LIMIT_KIB, f"a slow upload takes {each:.0f} KiB, and {LIMIT_KIB} are allowed"
    assert growth <= LIMIT_KIB + NOISE_KIB, f"one large upload takes {growth} KiB"


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        sys.exit(f"FAILED: {error}")
