#!/usr/bin/env bash
# Tables and recordings in a bucket: the black-box tests against a real S3 server, then the simulation against one that
# is killed and held up all the while.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/trunklog/target}"
s3="$here/servers/s3.sh"

variables=$("$s3" up)
trap '"$s3" down' EXIT
while read -r variable; do export "${variable?}"; done <<<"$variables"
export TRUNKLOG_TEST_BUCKET=s3://trunklog

tests() { cargo test --release --workspace --test all -- "$@"; }

# Left out is what looks into the files of a data directory, or damages them.
tests --skip killed_at_chosen_moments --skip recordings::names --skip recordings::crash --skip replay:: --skip secrets:: \
    --skip reports:: --skip messages:: --skip scenarios:: --skip laws:: --skip bad_input:: --skip bad_numbers::

S3="$s3" python3 "$here/s3_outage.py"

happened=$(mktemp)
trouble() {
    while sleep 2; do
        "$s3" kill; echo killed >>"$happened"; sleep 1; "$s3" start
        sleep 2
        "$s3" pause; sleep 2; "$s3" resume
    done
}
trouble &
troubled=$!
TRUNKLOG_SIM_CALLS=${TRUNKLOG_SIM_CALLS:-1500} tests truth::the_archive_equals_the_truth
kill "$troubled" && wait "$troubled" 2>/dev/null || true
echo "the S3 server was killed $(wc -l <"$happened") times"
[ -s "$happened" ] || { echo "FAILED: it was not killed meanwhile" >&2; exit 1; }
