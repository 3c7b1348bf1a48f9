"""An nginx of one's own as the peer: static files, and uploads by WebDAV PUT (which does not sync). Debian's nginx-light."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIGURATION = """
worker_processes 2; pid {root}/nginx.pid; error_log {root}/error.log warn; daemon off; {user}
events {{ worker_connections 16384; multi_accept on; use epoll; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s; sendfile on; tcp_nopush off; tcp_nodelay on;
  open_file_cache max=10000 inactive=600s; open_file_cache_valid 600s;
  types {{ audio/wav wav; audio/mpeg mp3; }} default_type application/octet-stream;
  client_max_body_size 0; client_body_buffer_size 16k;
  client_body_temp_path {root}/tmp; proxy_temp_path {root}/tmp; fastcgi_temp_path {root}/tmp;
  uwsgi_temp_path {root}/tmp; scgi_temp_path {root}/tmp;
  server {{
    listen 127.0.0.1:{port} backlog=4096; root {root}/files;
    location / {{ }}
    location /rec/ {{ dav_methods PUT DELETE; create_full_put_path on; dav_access user:rw; }}
  }}
}}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Nginx:
    """Runs until the `with` block ends; `files` is what it serves."""

    def __init__(self):
        self.root = Path(tempfile.mkdtemp(prefix="trunklog-nginx-"))
        self.files = self.root / "files"
        (self.files / "rec").mkdir(parents=True)
        (self.root / "tmp").mkdir()
        self.port = free_port()
        user = "user root;" if os.getuid() == 0 else ""
        file = self.root / "nginx.conf"
        file.write_text(CONFIGURATION.format(root=self.root, port=self.port, user=user))
        program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if program is None:
            sys.exit("FAILED: `nginx` is not installed (Debian: nginx-light), and this suite cannot be skipped")
        self.process = subprocess.Popen([program, "-c", str(file), "-e", str(self.root / "error.log")])
        self.url = f"http://127.0.0.1:{self.port}"
        self.address = ("127.0.0.1", self.port)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(self.address, 1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    sys.exit("FAILED: nginx did not start:\n" + (self.root / "error.log").read_text())
                time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.root, ignore_errors=True)

    def clean(self):
        """Removes what was uploaded; nginx may still be at the last upload of a client that has gone."""
        shutil.rmtree(self.files / "rec", ignore_errors=True)
        (self.files / "rec").mkdir(exist_ok=True)
