#!/usr/bin/env bash
# Apache Spark reads the tables where they lie, on the local disk and in a bucket, and answers as trunklog does.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/trunklog/target}"
s3="$here/servers/s3.sh"
"$here/servers/spark.sh" install
variables=$("$s3" up)
trap '"$s3" down' EXIT
while read -r variable; do export "${variable?}"; done <<<"$variables"
python3 "$here/spark_reads.py"
