#!/usr/bin/env bash
# Reads Delta tables with Apache Spark, the reference reader, which no one here wrote.
#
#   spark.sh install          pyspark and the jars for Delta and S3 (once, ~500 MB)
#   spark.sh TABLES FILE      runs the SQL statements of FILE, one a line, over the tables of that folder or bucket
#                             (`…/tables` or `s3a://bucket/prefix/tables`): `calls` (whole calls only), `events` and
#                             `recordings`; prints one JSON array of rows per statement
# A bucket is reached by AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
# State: $LIVE_DIR (default $HOME/.cache/trunklog/live). Needs java 17, mvn, python3.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
live=${LIVE_DIR:-$HOME/.cache/trunklog/live}

if [ ! -e "$live/spark/.complete-s3" ]; then
  python3 -m venv "$live/spark/venv"
  "$live/spark/venv/bin/pip" -q install pyspark==4.0.1
  mvn -q -B -f "$here/spark/pom.xml" dependency:copy-dependencies -DoutputDirectory="$live/spark/jars" >&2
  touch "$live/spark/.complete-s3"
fi
[ "${1:-}" = install ] && exit
exec "$live/spark/venv/bin/python" "$here/spark/read.py" "$live/spark/jars" "$@"
