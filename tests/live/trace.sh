#!/usr/bin/env bash
# What the kernel saw: no 2xx before fdatasync of the log, no trimming of the log before the tables are synced.
set -euo pipefail
exec python3 "$(dirname "$0")/trace.py"
