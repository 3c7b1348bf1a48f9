#!/usr/bin/env bash
# Range and conditional requests answered by trunklog and by nginx, on the same bytes.
set -euo pipefail
exec python3 "$(dirname "$0")/ranges.py"
