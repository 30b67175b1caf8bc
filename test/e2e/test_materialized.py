"""Materialized views over sharded tables beside other sessions: readers see the old rows or the new ones."""
import threading

import pytest

from harness import fsck
from harness.fixtures import SELF_CHECK
from harness.pair import databases

pytestmark = pytest.mark.skipif(SELF_CHECK, reason="about several servers")
ROWS = 40


@pytest.fixture
def endpoint(router):
    with databases("materialized", router) as [made]:
        yield made


def test_readers_beside_refreshes(endpoint):
    endpoint.run("CREATE TABLE t (id int PRIMARY KEY, v int) SHARD BY HASH (id)",
                 f"INSERT INTO t SELECT i, 0 FROM generate_series(1, {ROWS}) i",
                 "CREATE MATERIALIZED VIEW m AS SELECT id, v FROM t", "CREATE UNIQUE INDEX ON m (id)")
    problems, over = [], threading.Event()

    def repeat(*statements):
        try:
            with endpoint.connect() as connection:
                while not over.is_set():
                    for statement in statements:
                        connection.execute(statement)
        except Exception as error:  # pylint: disable=broad-except
            problems.append(f"{statements}: {error}")

    threads = [threading.Thread(target=repeat, args=statements) for statements in (
        ("UPDATE t SET v = v + 1 WHERE id > 0",), ("REFRESH MATERIALIZED VIEW m",),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY m",))]
    for thread in threads:
        thread.start()
    seen, changes = 0, 0
    with endpoint.connect() as reader:
        while changes < 30 and not problems:
            count, lowest = reader.execute("SELECT count(*), min(v) FROM m").fetchone()
            if count != ROWS or lowest < seen:
                problems.append(f"{count} rows, {lowest} behind {seen}")
            changes += lowest != seen
            seen = lowest
    over.set()
    for thread in threads:
        thread.join()
    assert problems == []
    endpoint.run("REFRESH MATERIALIZED VIEW m")
    assert endpoint.run("SELECT count(*) FROM m JOIN (SELECT max(v) AS v FROM m) x USING (v)") == [(ROWS,)]
    assert endpoint.run("SELECT pg_get_viewdef('m')")[0][0].split() == "SELECT t.id, t.v FROM t;".split()
    assert fsck.differences(endpoint) == []


def test_queries_are_swapped_by_owners_alone(endpoint):
    endpoint.run("CREATE TABLE t (id int PRIMARY KEY) SHARD BY HASH (id)", "CREATE MATERIALIZED VIEW m AS SELECT id FROM t")
    swap = "SELECT pgmosaic_refresh('m'::regclass, to_regclass('v'), false)"
    with endpoint.connect() as connection:
        for other in ("id::bigint AS id FROM t", "id, id AS again FROM t"):
            connection.execute("BEGIN")
            connection.execute(f"CREATE TEMP VIEW v AS SELECT {other.replace('FROM t', 'FROM (VALUES (1)) AS x (id)')}")
            with pytest.raises(Exception, match="of the same columns|function"):
                connection.execute(swap)
            connection.execute("ROLLBACK")
