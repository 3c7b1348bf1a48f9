#!/usr/bin/env bash
# The log over Apache Kafka, three brokers, and tables in a bucket: the black-box tests; several nodes that hand over, in roles,
# and amid troubles of all kinds; then the simulation while one broker after the other is killed and held up.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/trunklog/target}"
s3="$here/servers/s3.sh"
kafka="$here/servers/kafka.sh"

trap '"$kafka" down; "$s3" down' EXIT
variables=$("$s3" up)
while read -r variable; do export "${variable?}"; done <<<"$variables"
brokers=$("$kafka" up 3 | sed -n 's/^KAFKA_BROKERS=//p')
export TRUNKLOG_TEST_BROKERS="${brokers:?no broker answers}"

cargo build --release --workspace
tests() { cargo test --release --workspace --test all -- "$@"; }

# Left out besides: how many duplicates of earlier requests a sender is told of.
tests own_writes:: reading:: linking:: model:: crash:: truth:: operations:: --skip health_readiness_and_metrics \
    --skip recordings::crash
TRUNKLOG_TEST_BUCKET=s3://trunklog tests own_writes:: crash:: --skip recordings::crash
# … and of several partitions.
TRUNKLOG_TEST_PARTITIONS=3 TRUNKLOG_TEST_BUCKET=s3://trunklog tests linking:: recordings::uploads:: reports::living::

variables=$("$kafka" secured)
while read -r variable; do export "${variable?}"; done <<<"$variables"
python3 tests/live/secured.py
"$kafka" kill 4

export KAFKA="$kafka" S3="$s3"
python3 tests/live/takeover.py
python3 tests/live/cluster.py

happened=$(mktemp)
trouble() {
    while true; do
        for broker in 1 2 3; do
            sleep 3; "$kafka" kill "$broker"; echo "killed $broker" >>"$happened"
            sleep 3; "$kafka" start "$broker"
            sleep 6; "$kafka" pause "$broker"
            sleep 3; "$kafka" resume "$broker"
        done
    done
}
trouble &
troubled=$!
TRUNKLOG_TEST_PARTITIONS=3 TRUNKLOG_SIM_CALLS=${TRUNKLOG_SIM_CALLS:-1500} TRUNKLOG_TEST_BUCKET=s3://trunklog tests truth::the_archive_equals_the_truth
kill "$troubled" && wait "$troubled" 2>/dev/null || true
echo "brokers were killed $(wc -l <"$happened") times"
[ -s "$happened" ] || { echo "FAILED: no broker was killed meanwhile" >&2; exit 1; }
