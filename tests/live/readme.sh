#!/usr/bin/env bash
# The README's five-minute tour, exactly as printed: its first `sh` block in one terminal, the others in a second.
set -euo pipefail
exec python3 "$(dirname "$0")/readme.py"
