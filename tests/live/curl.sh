#!/usr/bin/env bash
# Every push message of the five sources through the real curl.
set -euo pipefail
exec python3 "$(dirname "$0")/curl.py"
