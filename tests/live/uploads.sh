#!/usr/bin/env bash
# Uploads in constant memory: one large one, and many slow ones at once; nginx's WebDAV PUT beside it.
set -euo pipefail
exec python3 "$(dirname "$0")/uploads.py"
