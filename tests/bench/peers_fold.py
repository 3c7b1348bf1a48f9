"""The fold as others do it: NDJSON messages to one row a call, repeats counted once, Parquet (zstd 3) by start.

    peers_fold.py duckdb|chdb|polars MESSAGES.ndjson OUT.parquet

Two threads. Prints one line of JSON: seconds, peak of resident memory, bytes, and what must be equal to the others'."""

import json
import os
import resource
import sys
import time
from pathlib import Path

THREADS = 2
ROW_GROUP = 250_000
# Column of the messages, type in DuckDB, type in chdb.
COLUMNS = [
    ("event_id", "VARCHAR", "String"),
    ("type", "VARCHAR", "String"),
    ("call_id", "VARCHAR", "String"),
    ("provider", "VARCHAR", "Nullable(String)"),
    ("at", "BIGINT", "Nullable(Int64)"),
    ("direction", "VARCHAR", "Nullable(String)"),
    ("from", "VARCHAR", "Nullable(String)"),
    ("to", "VARCHAR", "Nullable(String)"),
    ("agent", "INTEGER", "Nullable(Int32)"),
    ("outcome", "VARCHAR", "Nullable(String)"),
    ("ring_ms", "BIGINT", "Nullable(Int64)"),
    ("talk_ms", "BIGINT", "Nullable(Int64)"),
]
PLAIN = [("provider", "provider"), ("direction", "direction"), ("from", "from_number"), ("to", "to_number"), ("agent", "agent"), ("outcome", "outcome"), ("ring_ms", "ring_ms"), ("talk_ms", "talk_ms")]
TIMES = [("call.initiated", "started_at"), ("call.answered", "answered_at"), ("call.ended", "ended_at")]


def select():
    """The aggregates in SQL that DuckDB and ClickHouse both take."""
    parts = ["call_id"]
    parts += [f'max("{column}") AS {name}' for column, name in PLAIN]
    parts += [f"min(CASE WHEN type = '{kind}' THEN \"at\" END) AS {name}" for kind, name in TIMES]
    parts += ["count(DISTINCT event_id) AS messages"]
    return "SELECT " + ", ".join(parts)


def duckdb(source, target):
    import duckdb

    def fold():
        connection = duckdb.connect()
        connection.execute(f"SET threads = {THREADS}; SET memory_limit = '12GB'; SET preserve_insertion_order = false")
        connection.execute(f"SET temp_directory = '{target.parent / 'duckdb.tmp'}'")
        columns = ", ".join(f"'{name}': '{kind}'" for name, kind, _ in COLUMNS)
        rows = f"read_json('{source}', format = 'newline_delimited', columns = {{{columns}}})"
        options = f"FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 3, ROW_GROUP_SIZE {ROW_GROUP}"
        connection.execute(f"COPY ({select()} FROM {rows} GROUP BY call_id ORDER BY started_at) TO '{target}' ({options})")
        connection.close()

    return duckdb.__version__, fold


def chdb(source, target):
    import chdb
    from chdb import session

    def fold():
        asking = session.Session(str(target.parent / "chdb.tmp"))
        asking.query(f"SET max_threads = {THREADS}")
        columns = ", ".join(f"`{name}` {kind}" for name, _, kind in COLUMNS)
        rows = f"file('{source}', JSONEachRow, '{columns}')"
        settings = f"output_format_parquet_compression_method = 'zstd', output_format_parquet_row_group_size = {ROW_GROUP}"
        settings += ", output_format_compression_level = 3"
        asking.query(f"INSERT INTO FUNCTION file('{target}', Parquet) {select()} FROM {rows} GROUP BY call_id ORDER BY started_at SETTINGS {settings}")
        asking.close()

    return chdb.__version__, fold


def polars(source, target):
    os.environ["POLARS_MAX_THREADS"] = str(THREADS)
    import polars

    kinds = {"VARCHAR": polars.String, "BIGINT": polars.Int64, "INTEGER": polars.Int32}

    def fold():
        schema = {name: kinds[kind] for name, kind, _ in COLUMNS}
        column = polars.col
        first = [column("at").filter(column("type") == kind).min().alias(name) for kind, name in TIMES]
        highest = [column(name).max().alias(shown) for name, shown in PLAIN]
        rows = polars.scan_ndjson(source, schema=schema).group_by("call_id")
        rows = rows.agg(*highest, *first, column("event_id").n_unique().alias("messages")).sort("started_at")
        rows.sink_parquet(target, compression="zstd", compression_level=3, row_group_size=ROW_GROUP, engine="streaming")

    return polars.__version__, fold


def checked(target):
    """Counts and sums of the calls, read by none of the contenders."""
    import pyarrow.compute as compute
    import pyarrow.parquet as parquet

    rows = parquet.read_table(target, columns=["messages", "talk_ms", "outcome"])
    answered = compute.sum(compute.equal(compute.cast(rows["outcome"], "string"), "answered")).as_py()
    return {
        "calls": rows.num_rows,
        "messages": compute.sum(rows["messages"]).as_py(),
        "answered": answered,
        "talk_ms": compute.sum(rows["talk_ms"]).as_py(),
    }


def main():
    engine, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    target.unlink(missing_ok=True)
    version, fold = {"duckdb": duckdb, "chdb": chdb, "polars": polars}[engine](source, target)
    began = time.perf_counter()
    fold()
    seconds = time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    said = {"version": version, "seconds": seconds, "highest_resident_bytes": memory, "bytes": target.stat().st_size, "check": checked(target)}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
