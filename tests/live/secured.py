"""A broker that asks for TLS and SCRAM: trunklog gets in with the settings of docs/cluster.md, and with wrong ones it
says what is wrong, without the password. Run by on_kafka.sh, with KAFKA_SECURED, KAFKA_CA and KAFKA_PASSWORD."""

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from fixture import Server, binary, environment

BROKER, CA, PASSWORD = (os.environ[name] for name in ("KAFKA_SECURED", "KAFKA_CA", "KAFKA_PASSWORD"))
RIGHT = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.username": "trunklog",
    "sasl.password": PASSWORD,
    "ssl.ca.location": CA,
}


def config(options):
    lines = ["[kafka]", f'brokers = "{BROKER}"', "replication = 1", "min_insync_replicas = 1", "[kafka.options]"]
    return "\n".join(lines + [f'"{name}" = "{value}"' for name, value in options.items()]) + "\n"


def gets_in():
    with Server(config(RIGHT)) as server:
        form = b"event=IncomingCall&from=493012345&to=493098765&direction=in&call_id=secured"
        url = f"{server.url}/in/{server.key('acme', 'ingest:*')}/placetel"
        with urllib.request.urlopen(urllib.request.Request(url, data=form, method="POST"), timeout=60) as answer:
            assert answer.status == 200 and answer.headers["trunklog-offset"] == "0:0", answer.headers
        rows = server.sql(server.key("acme", "query"), "SELECT call_key FROM calls")["rows"]
        assert rows == [["secured"]], rows
        shown = server.run("config", "--config", str(server.root / "trunklog.toml"))
        server.stop()
        log = (server.root / "server.log").read_text()
        assert PASSWORD not in log and PASSWORD not in shown and "sasl.password" in shown, "the password is told"


def says(wrong, word):
    """With these settings instead it does not serve, and says why while it tries again: brokers may be away for a while."""
    with tempfile.TemporaryDirectory(prefix="trunklog-live-") as root:
        file, output = Path(root) / "trunklog.toml", Path(root) / "output"
        file.write_text(config({name: value for name, value in (RIGHT | wrong).items() if value}))
        command = [binary(), "serve", "--data-dir", f"{root}/data", "--listen", "127.0.0.1:0", "--config", str(file)]
        with output.open("w") as to:
            process = subprocess.Popen(command, stdout=to, stderr=to, env=environment())
        try:
            deadline, said = time.monotonic() + 60, ""
            while word not in said and time.monotonic() < deadline:
                time.sleep(0.2)
                said = output.read_text()
            assert word in said, f"{wrong}: it does not say why: {said[-3000:]}"
            assert PASSWORD not in said and "listening http" not in said, f"{wrong}: {said[-3000:]}"
        finally:
            process.kill()
            process.wait()


try:
    gets_in()
    says({"sasl.password": "wrong"}, "Authentication failed")
    says({"ssl.ca.location": ""}, "certificate verify failed")
    says({"security.protocol": "PLAINTEXT"}, "cannot start yet")
    print("secured: a message over TLS and SCRAM-SHA-512; a wrong password, an unknown certificate and no TLS are refused")
except AssertionError as error:
    sys.exit(f"FAILED: {error}")
