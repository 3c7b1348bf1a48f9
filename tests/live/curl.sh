#!/usr/bin/env bash
# Every push message of the five sources and every form of upload through the real curl.
set -euo pipefail
python3 "$(dirname "$0")/curl.py"
exec python3 "$(dirname "$0")/uploaded.py"
