"""A table of Range and conditional requests, sent to trunklog and to nginx (Debian's, as it comes) for the same bytes:
status, `Content-Range` and body are the same, of several ranges part by part. Where they are not, DIFFERENCES names the
section of RFC 9110 that ours follows; any other difference fails, and so does one that is listed and is none."""

import email.utils
import hashlib
import http.client
import os
import sys

from fixture import REPOSITORY, Server
from nginx import Nginx

FILE = REPOSITORY / "tests" / "data" / "recordings" / "support-stereo.wav"
SIZE = FILE.stat().st_size

# Name, method, headers. In values: {etag}, {modified}, {earlier}, {later} of the server that is asked, {size}, {last}.
CASES = [
    ("whole", "GET", {}),
    ("head", "HEAD", {}),
    ("first byte", "GET", {"Range": "bytes=0-0"}),
    ("last byte", "GET", {"Range": "bytes={last}-{last}"}),
    ("first 500", "GET", {"Range": "bytes=0-499"}),
    ("second 500", "GET", {"Range": "bytes=500-999"}),
    ("across 64 KiB", "GET", {"Range": "bytes=65530-65545"}),
    ("over 64 KiB", "GET", {"Range": "bytes=1000-200999"}),
    ("all of it", "GET", {"Range": "bytes=0-{last}"}),
    ("open end", "GET", {"Range": "bytes=700000-"}),
    ("open end from 0", "GET", {"Range": "bytes=0-"}),
    ("end beyond", "GET", {"Range": "bytes=700000-99999999"}),
    ("suffix", "GET", {"Range": "bytes=-500"}),
    ("suffix of one", "GET", {"Range": "bytes=-1"}),
    ("suffix of all", "GET", {"Range": "bytes=-{size}"}),
    ("suffix beyond", "GET", {"Range": "bytes=-99999999"}),
    ("suffix of none", "GET", {"Range": "bytes=-0"}),
    ("start at the end", "GET", {"Range": "bytes={size}-"}),
    ("start beyond", "GET", {"Range": "bytes=99999999-"}),
    ("both beyond", "GET", {"Range": "bytes=99999999-100000000"}),
    ("unit in capitals", "GET", {"Range": "Bytes=0-9"}),
    ("unknown unit", "GET", {"Range": "seconds=0-9"}),
    ("no unit", "GET", {"Range": "0-9"}),
    ("empty", "GET", {"Range": ""}),
    ("blanks around", "GET", {"Range": "bytes=0-9 , 20-29"}),
    ("two parts", "GET", {"Range": "bytes=0-9,20-29"}),
    ("three parts, one a suffix", "GET", {"Range": "bytes=0-9,1000-1999,-7"}),
    ("two parts, out of order", "GET", {"Range": "bytes=500-599,100-199"}),
    ("two parts, large", "GET", {"Range": "bytes=0-99999,300000-499999"}),
    ("two parts, side by side", "GET", {"Range": "bytes=0-99,100-199"}),
    ("two parts, one beyond", "GET", {"Range": "bytes=0-9,99999999-"}),
    ("two parts, both beyond", "GET", {"Range": "bytes=99999998-,99999999-"}),
    ("end before start", "GET", {"Range": "bytes=9-5"}),
    ("no numbers", "GET", {"Range": "bytes=a-b"}),
    ("nothing after the unit", "GET", {"Range": "bytes="}),
    ("only a dash", "GET", {"Range": "bytes=-"}),
    ("larger than any number", "GET", {"Range": "bytes=0-99999999999999999999999999"}),
    ("empty list element", "GET", {"Range": "bytes=0-9,,20-29"}),
    ("a tab in the list", "GET", {"Range": "bytes=0-9,\t20-29"}),
    ("more than all of it", "GET", {"Range": "bytes=0-,0-,0-,0-"}),
    ("head of a range", "HEAD", {"Range": "bytes=0-499"}),
    ("head of a range beyond", "HEAD", {"Range": "bytes=99999999-"}),
    ("if-range by etag", "GET", {"Range": "bytes=0-499", "If-Range": "{etag}"}),
    ("if-range by another etag", "GET", {"Range": "bytes=0-499", "If-Range": '"other"'}),
    ("if-range by weak etag", "GET", {"Range": "bytes=0-499", "If-Range": "W/{etag}"}),
    ("if-range by date", "GET", {"Range": "bytes=0-499", "If-Range": "{modified}"}),
    ("if-range by earlier date", "GET", {"Range": "bytes=0-499", "If-Range": "{earlier}"}),
    ("if-range by later date", "GET", {"Range": "bytes=0-499", "If-Range": "{later}"}),
    ("if-range, beyond", "GET", {"Range": "bytes=99999999-", "If-Range": "{etag}"}),
    ("if-range by another etag, beyond", "GET", {"Range": "bytes=99999999-", "If-Range": '"other"'}),
    ("if-range without range", "GET", {"If-Range": '"other"'}),
    ("if-none-match", "GET", {"If-None-Match": "{etag}"}),
    ("if-none-match, head", "HEAD", {"If-None-Match": "{etag}"}),
    ("if-none-match, weak", "GET", {"If-None-Match": "W/{etag}"}),
    ("if-none-match, in a list", "GET", {"If-None-Match": '"a", {etag}, "b"'}),
    ("if-none-match, any", "GET", {"If-None-Match": "*"}),
    ("if-none-match, another", "GET", {"If-None-Match": '"other"'}),
    ("if-none-match with range", "GET", {"If-None-Match": "{etag}", "Range": "bytes=0-9"}),
    ("if-none-match, another, with range", "GET", {"If-None-Match": '"other"', "Range": "bytes=0-9"}),
    ("if-none-match and earlier date", "GET", {"If-None-Match": "{etag}", "If-Modified-Since": "{earlier}"}),
    ("another if-none-match and same date", "GET", {"If-None-Match": '"other"', "If-Modified-Since": "{modified}"}),
    ("if-modified-since same", "GET", {"If-Modified-Since": "{modified}"}),
    ("if-modified-since earlier", "GET", {"If-Modified-Since": "{earlier}"}),
    ("if-modified-since later", "GET", {"If-Modified-Since": "{later}"}),
    ("if-modified-since, no date", "GET", {"If-Modified-Since": "yesterday"}),
    ("if-modified-since with range", "GET", {"If-Modified-Since": "{modified}", "Range": "bytes=0-9"}),
    ("if-match", "GET", {"If-Match": "{etag}"}),
    ("if-match, any", "GET", {"If-Match": "*"}),
    ("if-match, in a list", "GET", {"If-Match": '"a", {etag}'}),
    ("if-match, another", "GET", {"If-Match": '"other"'}),
    ("if-match, weak", "GET", {"If-Match": "W/{etag}"}),
    ("if-match with range", "GET", {"If-Match": "{etag}", "Range": "bytes=0-9"}),
    ("if-match, another, with range", "GET", {"If-Match": '"other"', "Range": "bytes=0-9"}),
    ("if-match and earlier date", "GET", {"If-Match": "{etag}", "If-Unmodified-Since": "{earlier}"}),
    ("if-unmodified-since same", "GET", {"If-Unmodified-Since": "{modified}"}),
    ("if-unmodified-since earlier", "GET", {"If-Unmodified-Since": "{earlier}"}),
    ("if-unmodified-since later", "GET", {"If-Unmodified-Since": "{later}"}),
    ("if-unmodified-since, no date", "GET", {"If-Unmodified-Since": "yesterday"}),
    ("if-match and if-none-match", "GET", {"If-Match": "{etag}", "If-None-Match": "{etag}"}),
]

# Our status, section of RFC 9110, and what it says.
DIFFERENCES = {
    "head of a range": (200, "14.2", "Range is defined for GET only; on any other method it MUST be ignored"),
    "head of a range beyond": (200, "14.2", "Range is defined for GET only; on any other method it MUST be ignored"),
    "larger than any number": (206, "14.1.1", "a recipient MUST expect large numbers; the range ends with the file"),
    "empty list element": (206, "5.6.1.2", "a recipient MUST ignore a reasonable number of empty list elements"),
    "a tab in the list": (206, "5.6.3", "optional whitespace is blanks and tabs"),
    "if-modified-since later": (304, "13.1.3", "true only if modified after that date; nginx wants the very same date"),
    "if-none-match and earlier date": (304, "13.1.3", "If-Modified-Since MUST be ignored beside If-None-Match"),
    "if-unmodified-since, no date": (200, "13.1.4", "what is no HTTP-date MUST be ignored"),
    "if-match and earlier date": (200, "13.1.4", "If-Unmodified-Since MUST be ignored beside If-Match"),
}


class Peer:
    """One of the two servers, and what it says about the file."""

    def __init__(self, name, address, path, key=None):
        self.name, self.address, self.path = name, address, path
        self.authorization = {"Authorization": f"Bearer {key}"} if key else {}
        headers = self.ask("GET", {})["headers"]
        for wanted in ("etag", "last-modified"):
            if wanted not in headers:
                sys.exit(f"FAILED: {name} sends no {wanted}: {headers}")
        modified = email.utils.parsedate_to_datetime(headers["last-modified"]).timestamp()
        self.values = {
            "etag": headers["etag"],
            "modified": headers["last-modified"],
            "earlier": email.utils.formatdate(modified - 3600, usegmt=True),
            "later": email.utils.formatdate(modified + 3600, usegmt=True),
            "size": SIZE,
            "last": SIZE - 1,
        }

    def ask(self, method, headers):
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        try:
            connection.request(method, self.path, headers={**self.authorization, **headers})
            answer = connection.getresponse()
            body = answer.read()
            return {"status": answer.status, "headers": {name.lower(): value for name, value in answer.getheaders()}, "body": body}
        finally:
            connection.close()

    def case(self, method, headers):
        return self.ask(method, {name: value.format(**self.values) for name, value in headers.items()})


def parts_of(answer, problems, name):
    """Content-Range and bytes of each part of a multipart/byteranges body."""
    kind, _, parameters = answer["headers"]["content-type"].partition(";")
    boundary = parameters.split("boundary=", 1)[1].strip().strip('"').encode()
    pieces = (b"\r\n" + answer["body"]).split(b"\r\n--" + boundary)
    if pieces[0].strip() or not pieces[-1].startswith(b"--"):
        problems.append(f"{name}: no proper {kind} body")
    parts = []
    for piece in pieces[1:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head.decode().strip().split("\r\n"))
        parts.append((fields.get("content-range"), "content-type" in fields, content))
    return parts


def shown(answer, name, problems):
    """What must be equal: the bodies of refusals are each server's own."""
    seen = {"status": answer["status"], "content-range": answer["headers"].get("content-range")}
    several = answer["headers"].get("content-type", "").startswith("multipart/byteranges")
    if several and answer["body"]:
        seen["parts"] = parts_of(answer, problems, name)
    elif answer["status"] in (200, 206, 304):
        seen["body"] = answer["body"]
    if answer["status"] in (200, 206) and "content-length" in answer["headers"]:
        if not several:
            seen["content-length"] = answer["headers"]["content-length"]
    return seen


def short(seen):
    """For people: bytes by number."""
    text = dict(seen)
    if "body" in text:
        text["body"] = f"{len(text['body'])} bytes"
    if "parts" in text:
        text["parts"] = [(place, f"{len(content)} bytes") for place, _, content in text["parts"]]
    return text


def compare(ours, theirs):
    problems = []
    for name, method, headers in CASES:
        own = shown(ours.case(method, headers), f"{name} (trunklog)", problems)
        other = shown(theirs.case(method, headers), f"{name} (nginx)", problems)
        listed = DIFFERENCES.get(name)
        if listed is None:
            if own != other:
                problems.append(f"{name}: {method} {headers}\n    trunklog {short(own)}\n    nginx    {short(other)}")
        elif own["status"] != listed[0]:
            problems.append(f"{name}: trunklog answers {own['status']}, and RFC 9110 {listed[1]} wants {listed[0]}")
        elif own == other:
            problems.append(f"{name}: is listed as a difference and is none")
    return problems


def main():
    content = FILE.read_bytes()
    with Server() as server, Nginx() as nginx:
        (nginx.files / "file.wav").write_bytes(content)
        os.utime(nginx.files / "file.wav", (1_760_000_000, 1_760_000_000))
        ingest, query, listen = (server.key("acme", scope) for scope in ("ingest:*", "query", "recordings:read"))
        address = tuple(server.url.removeprefix("http://").split(":"))
        connection = http.client.HTTPConnection(*address, timeout=60)
        target = "/in/kazoo/recordings/call_recording_ranges%40h.wav"
        connection.request("PUT", target, content, {"Authorization": f"Bearer {ingest}", "Content-Type": "audio/wav"})
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status == 201, f"the upload is answered {answer.status}: {said!r}"
        found = server.sql(query, "SELECT recording_id FROM recordings")["rows"][0][0]
        ours = Peer("trunklog", address, f"/v1/recordings/{found}/audio", listen)
        theirs = Peer("nginx", nginx.address, "/file.wav")
        assert ours.values["etag"] == f'"{hashlib.sha256(content).hexdigest()}"', f"ETag {ours.values['etag']}"
        problems = compare(ours, theirs)
    for name, (status, section, words) in DIFFERENCES.items():
        print(f"by RFC 9110 {section} unlike nginx: {name}: {status}: {words}")
    if problems:
        sys.exit(f"FAILED: {len(problems)} of {len(CASES)} requests:\n" + "\n".join(problems))
    print(f"ranges: {len(CASES)} requests answered as nginx does, {len(DIFFERENCES)} of them on purpose otherwise")


if __name__ == "__main__":
    main()
