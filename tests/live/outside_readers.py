"""Two outside readers, the `deltalake` package and DuckDB on its file list, read `events` and `calls` while the
server writes: nothing twice, no gap, and after `flush` at offset N the final rows equal SQL at `as_of` N. One call has
a B-leg that names it late: it is there once, and its leg is in a tier of its own.

Runs in a Python with `deltalake`, `duckdb` and `pyarrow` (`.ci/run` makes one)."""

import sys
import time

from fixture import Server, size, wait

try:
    import duckdb
    from deltalake import DeltaTable
except ImportError as error:
    sys.exit(f"FAILED: {error}; this suite cannot be skipped: pip install deltalake duckdb pyarrow")

BOOKKEEPING = {"fold", "day", "tier"}
CALL, LEG = "late-a", "late-b"  # keys of a call, and of its leg before it was known whose leg it is


def paths(table):
    """The table's own list of files, as plain paths."""
    return [uri.removeprefix("file://") for uri in table.file_uris()]


def duckdb_relation(table):
    files = ", ".join("'" + path.replace("'", "''") + "'" for path in paths(table))
    return f"read_parquet([{files}], hive_partitioning = true, union_by_name = true)" if files else None


def check_events(server):
    """Read by both, the offsets are those from 0 on, each once."""
    table = DeltaTable(str(server.data / "tables" / "events"))
    with duckdb.connect() as connection:
        relation = duckdb_relation(table)
        if relation is None:
            return 0
        count, distinct, low, high = connection.sql(f'SELECT count(*), count(DISTINCT "offset"), min("offset"), max("offset") FROM {relation}').fetchall()[0]
        assert count == distinct == high + 1 and low == 0, f"events by DuckDB: {count} rows, {distinct} offsets from {low} to {high}"
        offsets = table.to_pyarrow_table(columns=["offset"])
        again = connection.sql('SELECT count(*), count(DISTINCT "offset"), max("offset") FROM offsets').fetchall()[0]
        assert again == (count, distinct, high), f"events by deltalake: {again}, by DuckDB {(count, distinct, high)}"
    return count


def send_late_leg(server, ingest, query):
    """A B-leg that has a final row of its own when it first names its call; returns once it is a leg of that."""

    def hook(event, call_id, direction, second, further=""):
        form = f"hook_event={event}&timestamp={63_903_000_000 + second}&call_id={call_id}&call_direction={direction}"
        form += f"&caller_id_number=%2B35316877779&request=0871234567%40acme.sip{further}"
        server.post("/in/kazoo/hook", ingest, form.encode(), "application/x-www-form-urlencoded")

    hook("channel_create", LEG, "outbound", 1)
    server.flush()
    assert tiers_of_leg(server) == ["final"], f"before it names its call, the leg is in {tiers_of_leg(server)}"
    hook("channel_create", CALL, "inbound", 0)
    hook("channel_answer", LEG, "outbound", 5, f"&other_leg_call_id={CALL}")
    deadline = time.monotonic() + 60
    while (found := server.sql(query, "SELECT call_key FROM calls WHERE call_key IN ($1, $2)", [CALL, LEG])["rows"]) != [[CALL]]:
        assert time.monotonic() < deadline, f"the leg was not linked within 60 s: {found}"
        time.sleep(0.1)


def tiers_of_leg(server):
    rows = DeltaTable(str(server.data / "tables" / "calls")).to_pyarrow_table(columns=["call_key", "tier"]).to_pylist()
    return [row["tier"] for row in rows if row["call_key"] == LEG]


def differences(server, query, offset):
    """Rows that only one side has, for each outside reader; and how many rows SQL has."""
    stored = server.root / "as-of.parquet"
    stored.write_bytes(server.sql(query, "SELECT * FROM calls", as_of=str(offset), accept="application/vnd.apache.parquet"))
    table = DeltaTable(str(server.data / "tables" / "calls"))
    found = {}
    with duckdb.connect() as connection:
        connection.sql("SET TimeZone = 'UTC'")
        connection.sql(f"CREATE TABLE sql_rows AS SELECT * FROM read_parquet('{stored}')")
        columns = [name for name, *_ in connection.sql("DESCRIBE sql_rows").fetchall() if name not in BOOKKEEPING]
        listed = ", ".join(f'"{name}"' for name in columns)
        by_deltalake = table.to_pyarrow_table(filters=[("tier", "=", "final")])
        connection.register("by_deltalake", by_deltalake)
        sides = {"deltalake": "by_deltalake", "DuckDB": f"(SELECT * FROM {duckdb_relation(table)} WHERE tier = 'final')"}
        rows = connection.sql("SELECT count(*) FROM sql_rows").fetchall()[0][0]
        for name, relation in sides.items():
            total, distinct = connection.sql(f"SELECT count(*), count(DISTINCT call_id) FROM {relation}").fetchall()[0]
            assert total == distinct, f"{name} finds {total} final rows for {distinct} calls"
            late = connection.sql(f"SELECT call_key FROM {relation} WHERE call_key IN ('{CALL}', '{LEG}')").fetchall()
            assert late == [(CALL,)], f"{name} finds {late} of a call and its leg"
            connection.sql(f"CREATE TABLE outside AS SELECT {listed} FROM {relation}")
            more = connection.sql(f"SELECT count(*) FROM (SELECT * FROM outside EXCEPT SELECT {listed} FROM sql_rows)").fetchall()[0][0]
            less = connection.sql(f"SELECT count(*) FROM (SELECT {listed} FROM sql_rows EXCEPT SELECT * FROM outside)").fetchall()[0][0]
            connection.sql("DROP TABLE outside")
            if more or less or total != rows:
                found[name] = f"{total} rows, SQL has {rows}; {more} differ there, {less} differ in SQL"
    return found, rows


def main():
    calls = size("TRUNKLOG_READER_CALLS", 1500)
    with Server() as server:
        ingest, query = server.key("acme", "ingest:*"), server.key("acme", "query")
        sending = server.simulate(ingest, "--calls", calls, "--rate", 400, "--seed", 9, "--duplicates", "0.01", "--out-of-order", "0.05")
        while_writing = attempts = 0
        send_late_leg(server, ingest, query)
        while sending.poll() is None:
            offset = server.flush()
            check_events(server)
            # A swap between the flush and our reading may already hold more, so one try may miss; not all may.
            found, rows = differences(server, query, offset)
            attempts += 1
            while_writing += not found and rows > 0
            time.sleep(0.3)
        wait(sending, 1, "the simulation")
        assert attempts > 2, "the simulation was over before anybody read; give it more calls"
        assert while_writing > 0, f"in {attempts} flushes while writing no reader saw the rows of the flushed offset: {found}"
        offset = server.flush()
        events = check_events(server)
        assert events == offset + 1, f"flushed up to {offset}, but the table has {events} events"
        found, rows = differences(server, query, offset)
        assert not found and rows > 0, f"after the flush at {offset}: {found}"
        assert tiers_of_leg(server) == ["leg"], f"the leg is in {tiers_of_leg(server)}"
        print(f"outside readers: {rows} calls and {events} events equal SQL; {while_writing} of {attempts} times also while writing")


try:
    main()
except AssertionError as error:
    sys.exit(f"FAILED: {error}")
