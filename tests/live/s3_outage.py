"""A server whose bucket goes away and comes back: messages are taken all the while, recordings get 503 and are taken on
the next try, nothing is lost. And who asks for a recording is sent to the bucket, if the configuration says so. Run by
on_s3.sh, with `S3` naming the script that starts and stops the S3 server."""

import hashlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

from fixture import Server

S3 = os.environ["S3"]
CONFIG = """
store.url = "s3://trunklog/outage"
recordings.presign = "5m"
fold.interval = "500ms"
"""


class Stay(urllib.request.HTTPRedirectHandler):
    """Does not follow."""

    def redirect_request(self, *_):
        return None


def ask(url, key=None, method="GET", body=None, kind=None):
    """Status, headers, body."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    headers |= {"content-type": kind} if kind else {}
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    try:
        with urllib.request.build_opener(Stay).open(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def sound(number, length):
    return b"RIFF" + hashlib.sha256(str(number).encode()).digest() * (length // 32)


def main():
    with Server(CONFIG) as server:
        ingest, reader = server.key("acme", "ingest:*"), server.key("acme", "query", "recordings:read")

        def upload(number, length):
            path = f"{server.url}/in/kazoo/recordings/call_recording_{number}%40h.wav"
            return ask(path, ingest, "PUT", sound(number, length), "audio/wav")

        def send(number):
            form = f"event=IncomingCall&from=493012345&to=493098765&call_id=c{number}&direction=in"
            return ask(f"{server.url}/in/placetel", ingest, "POST", form.encode(), "application/x-www-form-urlencoded")[0]

        def listen(number):
            key = f"SELECT recording_id FROM recordings WHERE sha256 = '{hashlib.sha256(number).hexdigest()}'"
            found = server.sql(reader, key)["rows"]
            assert len(found) == 1, f"{len(found)} recordings of these bytes"
            return f"{server.url}/v1/recordings/{found[0][0]}/audio"

        sizes = {1: 1_000, 2: 200_000, 3: 20_000_000}
        for number, length in sizes.items():
            status, _, said = upload(number, length)
            assert status in (200, 201, 204), f"{status} {said[:300]!r}"
        for number, length in sizes.items():
            address = listen(sound(number, length))
            status, headers, _ = ask(address, reader)
            assert status == 307, f"sent nowhere: {status}"
            location = headers["location"]
            assert location.startswith(os.environ["AWS_ENDPOINT_URL"]) and headers["cache-control"] == "no-store", location
            status, _, body = ask(location)
            assert (status, body) == (200, sound(number, length)), f"{status}, {len(body)} bytes"
            status, _, _ = ask(location.replace("Signature=", "Signature=0"))
            assert status == 403, f"an address that was changed: {status}"
            assert ask(address)[0] == 401, "without a key nobody is sent anywhere"
        assert all(send(number) == 200 for number in range(20))
        server.flush()

        subprocess.run([S3, "kill"], check=True)
        began = time.monotonic()
        assert all(send(number) == 200 for number in range(20, 40)), "messages need only the log"
        assert time.monotonic() - began < 10, "and do not wait for the bucket"
        for number, length in ((4, 1_000), (5, 12_000_000)):
            status, headers, said = upload(number, length)
            assert status == 503 and headers["retry-after"], f"{status} {said[:300]!r}"
        time.sleep(3)
        subprocess.run([S3, "start"], check=True)
        for number, length in ((4, 1_000), (5, 12_000_000)):
            status, _, said = upload(number, length)
            assert status in (200, 201, 204), f"on the next try: {status} {said[:300]!r}"
        server.flush()
        calls = server.sql(reader, "SELECT count(*), count(DISTINCT call_id) FROM calls WHERE source = 'placetel'")["rows"]
        recordings = server.sql(reader, "SELECT count(*), count(DISTINCT sha256) FROM recordings")["rows"]
        assert (calls, recordings) == ([[40, 40]], [[5, 5]]), f"{calls} {recordings}"
        print("s3 outage: 40 calls and 5 recordings, each once; messages were taken without the bucket, recordings after it")


try:
    main()
except AssertionError as error:
    sys.exit(f"FAILED: {error}")
