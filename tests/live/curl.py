"""Every push message of tests/data/messages.json through the real curl: the documented answer, the row in `events`,
the call in `calls`, by the next SQL statement."""

import json
import subprocess
import sys

from fixture import REPOSITORY, Server, need

DATA = REPOSITORY / "tests" / "data"


def differs(expected, found):
    """The same comparison as in tests/src/expect.rs."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return next((f"{name}: {text}" for name, value in expected.items() if (text := differs(value, found.get(name)))), None)
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return next((text for pair in zip(expected, found) if (text := differs(*pair))), None)
    if expected == "*" and found is not None:
        return None
    if isinstance(expected, str) and expected.startswith("~") and isinstance(found, str) and expected[1:] in found:
        return None
    same = expected == found and isinstance(expected, bool) == isinstance(found, bool)
    return None if same else f"expected {expected!r}, found {found!r}"


def curl(curl_path, server, case, key):
    """Status, headers and body as curl got them."""
    command = [curl_path, "--silent", "--show-error", "--globoff", "--include", "--max-time", "30", "--request", case["method"]]
    auth = case.get("auth", "bearer")
    if auth == "bearer":
        command += ["--header", f"Authorization: Bearer {key}"]
    elif auth == "basic":
        command += ["--user", f"pbx:{key}"]
    body = case.get("body")
    if body is not None:
        body = body if isinstance(body, str) else json.dumps(body)
        command += ["--header", f"Content-Type: {case['type']}", "--data-binary", "@-"]
    command.append(server.url + case["path"].replace("{key}", key))
    sent = (body or "").replace("{key}", key).encode()
    output = subprocess.run(command, input=sent, check=True, stdout=subprocess.PIPE).stdout
    head, _, rest = output.partition(b"\r\n\r\n")
    while head.split(b" ")[1:2] == [b"100"]:
        head, _, rest = rest.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split()[1]), headers, rest.decode()


def problems_of(server, curl_path, case, keys):
    ingest, query = keys
    status, headers, body = curl(curl_path, server, case, ingest)
    expected = case["answer"]
    if status != expected["status"]:
        yield f"status {status}: {body}"
    kind = headers.get("content-type", "").split(";")[0]
    if expected.get("type") and kind != expected["type"]:
        yield f"content type `{kind}`"
    wanted = expected.get("body")
    if wanted is not None:
        text = differs(wanted, body.rstrip() if isinstance(wanted, str) else json.loads(body))
        if text:
            yield f"answer {text}"
    if not case["events"]:
        return
    last = int(headers["trunklog-offset"])
    sql = 'SELECT * FROM events WHERE "offset" > $1 AND "offset" <= $2 ORDER BY "offset"'
    text = differs(case["events"], rows(server.sql(query, sql, [last - len(case["events"]), last])))
    if text:
        yield f"events {text}"
    call = case.get("call")
    if call:
        by = ["source", "call_key"] if "call_key" in call else ["source", "from_number", "to_number"]
        where = " AND ".join(f"{column} = ${index + 1}" for index, column in enumerate(by))
        found = rows(server.sql(query, f"SELECT * FROM calls WHERE {where}", [call[column] for column in by]))
        text = differs([call], found) if len(found) == 1 else f"{len(found)} rows"
        if text:
            yield f"call {text}"


def rows(answer):
    names = [column["name"] for column in answer["columns"]]
    return [dict(zip(names, row)) for row in answer["rows"]]


def main():
    curl_path = need("curl")
    cases = json.loads((DATA / "messages.json").read_text())
    config, contacts = (DATA / "messages.toml").read_text(), (DATA / "contacts.csv").read_text()
    problems = []
    with Server(config, [("contacts.csv", contacts)]) as server:
        keys = {tenant: (server.key(tenant, "ingest:*"), server.key(tenant, "query")) for tenant in ("acme", "dublin", "bare")}
        for case in cases:
            found = problems_of(server, curl_path, case, keys[case.get("tenant", "acme")])
            problems += [f"{case['name']}: {problem}" for problem in found]
    if problems:
        sys.exit(f"FAILED: {len(problems)} problems:\n" + "\n".join(problems))
    print(f"curl: {len(cases)} requests were answered and stored as documented")


main()
