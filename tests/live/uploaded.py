"""Every way in which a Kazoo uploads a recording, through the real curl and with real recordings: what comes back is
what was sent, at its URL and by its id, with what it is and the call that it belongs to."""

import base64
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fixture import REPOSITORY, Server, need

RECORDINGS = REPOSITORY / "tests" / "data" / "recordings"
ID = "4f1c9d%4010.1.2.3"
CALL = "4f1c9d@10.1.2.3"
FIELDS = f"from=1001%40acme.sip&to=2002%40acme.sip&caller_id_name=Ann+B&caller_id_number=1001&call_id={ID}&cdr_id=202501-{ID}"
OF_4_3 = f"{FIELDS}&interaction_id=63903000000-0a1b2c3d&owner_id=u7&account_id=00000000000000000000000000000001&start=63903000000&duration_ms=22225&recording_id=202501-0123456789abcdef0123456789abcdef"
UUID = "0f8e7d6c-5b4a-4938-8271-605f4e3d2c1b"

# What the URL is after `recordings`, the recording, the call that it is of, and what the bytes are.
MONO = ("support-mono.mp3", {"container": "mp3", "codec": "mp3", "channels": 1, "sample_rate_hz": 8000, "status": "received"})
STEREO = ("support-stereo.wav", {"container": "wav", "codec": "pcm_s16le", "channels": 2, "sample_rate_hz": 8000, "status": "received"})
ULAW = ("voicemail-ulaw.wav", {"container": "wav", "codec": "pcm_mulaw", "channels": 1, "sample_rate_hz": 8000, "status": "received"})
VARIABLE = ("voicemail-vbr.mp3", {"container": "mp3", "codec": "mp3", "channels": 1, "sample_rate_hz": 8000, "status": "received"})
CUT = ("truncated.mp3", {"container": "mp3", "status": "damaged"})
NO_AUDIO = ("not-audio.mp3", {"container": None, "codec": None, "status": "damaged"})
VARIANTS = [
    ("3.x, no query", f"/rec/t1/call_recording_{ID}.mp3", MONO, CALL),
    ("4.0", f"/call_recording_{ID}.mp3?{FIELDS}", STEREO, CALL),
    ("4.3", f"/t1/call_recording_{ID}.wav?{OF_4_3}", ULAW, CALL),
    ("kazoo5, conference", f"/call_recording_{ID}.mp3?{OF_4_3}&conference_recording=true&conference_id=c1", VARIABLE, CALL),
    ("base URL with k=v", f"/store.php?x=1&recording=call_recording_{ID}.mp3&{FIELDS}", MONO, CALL),
    ("base URL with k=", f"/store.php?file=call_recording_{ID}.mp3&{FIELDS}", CUT, CALL),
    ("base URL with k=, no fields", f"/store.php?file=call_recording_{ID}.mp3", STEREO, CALL),
    ("a second `?`", f"/store.php?x=call_recording_{ID}.mp3?{FIELDS}", MONO, CALL),
    ("double dot", f"/call_recording_{ID}..mp3", VARIABLE, CALL),
    ("record_caller", f"/voicemail/0001/box/{ID}.wav", ULAW, CALL),
    ("record_caller, UUID", f"/{UUID}.mp3", MONO, UUID),
    ("the vendor's PHP receiver", f"/kzr/index.php?recording={ID}.wav", STEREO, CALL),
    ("a greeting", "/greetings/hello.mp3", NO_AUDIO, None),
]


def curl(*arguments):
    command = [need("curl"), "--silent", "--show-error", "--globoff", "--fail-with-body", "--max-time", "30", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def row_of(server, query, recording_id):
    """With what the bytes are, which is found out after the answer."""
    deadline = time.monotonic() + 20
    while True:
        row = json.loads(curl("-H", f"Authorization: Bearer {query}", f"{server.url}/v1/recordings/{recording_id}"))
        probed = row["status"] == "damaged" or row["container"] is not None
        if probed or time.monotonic() > deadline:
            return row
        time.sleep(0.05)


def check(server, source, method, variant, keys):
    name, target, (file, expected), call = variant
    ingest, query, listen = keys
    sent = (RECORDINGS / file).read_bytes()
    url = f"{server.url}/in/{ingest}/{source}/recordings{target}"
    kind = "audio/wav" if file.endswith("wav") else "audio/mpeg"
    answer = json.loads(curl("-X", method, "-H", f"Content-Type: {kind}", "--data-binary", f"@{RECORDINGS / file}", url))
    assert curl(url) == sent, "not what was sent, at its URL"
    audio = f"{server.url}/v1/recordings/{answer['recording_id']}/audio"
    assert curl("-H", f"Authorization: Bearer {listen}", audio) == sent, "not what was sent, by its id"
    row = row_of(server, query, answer["recording_id"])
    wanted = {**expected, "sha256": hashlib.sha256(sent).hexdigest(), "bytes": len(sent), "call_key": call}
    wanted["link"] = "id" if call else "none"
    wrong = {column: (value, row[column]) for column, value in wanted.items() if row[column] != value}
    assert not wrong, f"expected, found: {wrong}"
    if call:
        of_call = json.loads(curl("-H", f"Authorization: Bearer {query}", f"{server.url}/v1/calls/{row['call_id']}"))
        found = [recording["recording_id"] for recording in of_call["recordings"]]
        assert of_call["call_key"] == call and answer["recording_id"] in found, f"its call has {found}"


def storage_plan(server, source, encoded, keys):
    """Multipart: a document and the media, in base64 or not; and the test of the credentials."""
    ingest, query, listen = keys
    sent = (RECORDINGS / "voicemail-vbr.mp3").read_bytes() + (b"b" if encoded else b"")
    base = f"{server.url}/in/{ingest}/{source}/recordings/plan/00000000000000000000000000000001"
    document = "202501-0123456789abcdef0123456789abcdef"
    with tempfile.TemporaryDirectory() as folder:
        media, metadata = Path(folder) / "media", Path(folder) / "metadata"
        media.write_bytes(base64.b64encode(sent) if encoded else sent)
        metadata.write_text(json.dumps({"call_id": CALL, "base64_encode_data": encoded}))
        forms = ["-F", f"{document}=<{metadata};type=application/json", "-F", f"call_recording_{ID}.mp3=@{media};type=audio/mpeg"]
        url = f"{base}/{document}/call_recording_{ID}.mp3"
        answer = json.loads(curl("-X", "PUT", *forms, url))
        assert answer["sha256"] == hashlib.sha256(sent).hexdigest(), "another SHA-256"
        assert curl(url) == sent, "not the media"
        assert row_of(server, query, answer["recording_id"])["call_key"] == CALL, "another call"
        credentials = f"{base}/{document}/0a1b2c_test_credentials_file.txt"
        Path(media).write_bytes(b"some random content: 0a1b2c3d4e5f")
        curl("-X", "PUT", "-H", "Content-Type: text/plain", "--data-binary", f"@{media}", credentials)
        assert curl(credentials) == media.read_bytes(), "the test of the credentials would fail"


def main():
    with Server() as server:
        ingest = server.key("acme", "ingest:*")
        keys = (ingest, server.key("acme", "query"), server.key("acme", "recordings:read"))
        done = 0
        for source in ("kazoo", "virtualpbx"):
            for method in ("PUT", "POST"):
                for variant in VARIANTS:
                    try:
                        check(server, source, method, variant, keys)
                    except (AssertionError, subprocess.CalledProcessError) as error:
                        sys.exit(f"FAILED: {source}, {method}, {variant[0]}: {error}")
                    done += 1
            for encoded in (False, True):
                storage_plan(server, source, encoded, keys)
                done += 1
        print(f"uploads by curl: {done} came back as sent, with what they are and their calls")


if __name__ == "__main__":
    main()
