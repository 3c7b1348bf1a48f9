#!/usr/bin/env bash
# An <audio> element in a real browser plays and seeks.
set -euo pipefail
exec python3 "$(dirname "$0")/browser.py"
