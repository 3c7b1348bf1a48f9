"""Headless Chromium plays recordings from links of trunklog in an <audio> element of a page from elsewhere: time goes
on, seeking lands where it should and plays on, and it was done with Range requests. Driven by chromedriver (W3C
WebDriver over HTTP); a proxy between browser and trunklog notes what the browser asks for."""

import http.server
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from fixture import REPOSITORY, Server, need
from nginx import free_port

RECORDINGS = REPOSITORY / "tests" / "data" / "recordings"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
]
PAGE = b"<!DOCTYPE html><title>listen</title><audio id=audio preload=auto></audio>"


class Page(http.server.BaseHTTPRequestHandler):
    """The page with the player, on an origin of its own."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, *_):
        pass


class Proxy:
    """Passes bytes on, both ways, and keeps the heads of requests."""

    def __init__(self, host, port):
        self.target, self.heads = (host, port), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            browser, _ = self.listener.accept()
            server = socket.create_connection(self.target)
            threading.Thread(target=self.pass_on, args=(browser, server, True), daemon=True).start()
            threading.Thread(target=self.pass_on, args=(server, browser, False), daemon=True).start()

    def pass_on(self, source, sink, keep):
        try:
            while piece := source.recv(65536):
                if keep:
                    self.heads.append(piece.decode("latin-1"))
                sink.sendall(piece)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def ranges(self):
        lines = (line for head in list(self.heads) for line in head.split("\r\n"))
        return [line for line in lines if line.lower().startswith("range:")]


class Driver:
    """One browser session."""

    def __init__(self):
        program, browser = need("chromedriver"), need("chromium")
        self.folder = tempfile.mkdtemp(prefix="trunklog-browser-")
        port = free_port()
        self.log = open(Path(self.folder) / "chromedriver.log", "w")
        self.process = subprocess.Popen([program, f"--port={port}"], stdout=self.log, stderr=self.log)
        self.base = f"http://127.0.0.1:{port}"
        self.session = None
        deadline = time.monotonic() + 30
        while True:
            try:
                self.call("GET", "/status")
                break
            except (OSError, urllib.error.URLError):
                if time.monotonic() > deadline:
                    raise AssertionError("chromedriver did not start") from None
                time.sleep(0.1)
        flags = [*FLAGS, f"--user-data-dir={self.folder}/profile"]
        options = {"binary": browser, "args": flags}
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
        self.session = "/session/" + self.call("POST", "/session", wanted)["sessionId"]
        self.call("POST", self.session + "/timeouts", {"script": 60_000, "pageLoad": 60_000})

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data=data, method=method, headers={"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read()[:2000].decode()}") from None

    def open(self, url):
        self.call("POST", self.session + "/url", {"url": url})

    def run(self, script, *arguments):
        return self.call("POST", self.session + "/execute/sync", {"script": script, "args": list(arguments)})

    def close(self):
        try:
            if self.session:
                self.call("DELETE", self.session)
        finally:
            self.process.terminate()
            self.process.wait(30)
            self.log.close()
            shutil.rmtree(self.folder, ignore_errors=True)


STATE = """
const audio = document.getElementById('audio');
return {time: audio.currentTime, duration: audio.duration, paused: audio.paused, seeking: audio.seeking,
        ready: audio.readyState, error: audio.error && (audio.error.code + ' ' + audio.error.message), said: window.said};
"""
START = """
window.said = null;
const audio = document.getElementById('audio');
audio.src = arguments[0];
audio.play().catch(error => { window.said = String(error); });
"""
SEEK = "document.getElementById('audio').currentTime = arguments[0];"


def until(driver, what, enough):
    deadline = time.monotonic() + 30
    while True:
        state = driver.run(STATE)
        if state["error"] or state["said"]:
            raise AssertionError(f"{what}: the browser says {state['error']} {state['said']}")
        if enough(state):
            return state
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within 30 s: {state}")
        time.sleep(0.1)


def listen(driver, url, length):
    """Plays from the start, from 5 s, from near the end to the end, and back at 1 s."""
    driver.run(START, url)
    state = until(driver, "playing", lambda state: state["time"] > 0.3)
    assert abs(state["duration"] - length) < 0.5, f"the browser thinks it lasts {state['duration']} s and not {length} s"
    for place in (5, 17, 1):
        driver.run(SEEK, place)
        state = until(driver, f"seeking to {place} s", lambda state: not state["seeking"] and state["time"] > place + 0.3)
        assert state["time"] < place + 5 and not state["paused"], f"after seeking to {place} s: {state}"
    driver.run(SEEK, length - 0.7)
    until(driver, "the end", lambda state: state["paused"] and state["time"] > length - 0.5)


def link(server, ingest, query, key, name):
    """Uploads a recording and gives the path of a link to it."""
    content = (RECORDINGS / name).read_bytes()
    url = f"{server.url}/in/{ingest}/kazoo/recordings/call_recording_{name.replace('.', '-')}%40h.{name[-3:]}"
    kind = "audio/wav" if name.endswith("wav") else "audio/mpeg"
    request = urllib.request.Request(url, data=content, method="PUT", headers={"content-type": kind})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 201, answer.status
    found = server.sql(query, "SELECT recording_id FROM recordings WHERE bytes = $1", [len(content)])["rows"][0][0]
    made = json.loads(server.post(f"/v1/recordings/{found}/links", key, b'{"expires_in":600}'))
    return made["url"].removeprefix(server.url)


def main():
    for program in ("chromedriver", "chromium"):
        need(program)
    page = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    with Server() as server:
        ingest, query, key = (server.key("acme", scope) for scope in ("ingest:*", "query", "recordings:read"))
        host, port = server.url.removeprefix("http://").split(":")
        links = {name: link(server, ingest, query, key, name) for name in ("support-stereo.wav", "support-mono.mp3")}
        driver = Driver()
        try:
            driver.open(f"http://127.0.0.1:{page.server_port}/")
            for name, path in links.items():
                proxy = Proxy(host, int(port))
                listen(driver, f"http://{proxy.address}{path}", 22.25)
                assert proxy.ranges(), f"{name} was played without a Range request:\n" + "\n".join(proxy.heads)
                print(f"browser: {name} plays and seeks, with {len(proxy.ranges())} Range requests: {proxy.ranges()[:4]}")
        finally:
            driver.close()


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        sys.exit(f"FAILED: {error}")
