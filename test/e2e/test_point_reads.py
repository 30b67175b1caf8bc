"""Rows by primary key are read from their leaf by prepared statements; nobody can tell from the answers."""
import threading

import pytest

from harness.pair import databases
from harness.wire import Session

TABLE = "CREATE TABLE item (id int PRIMARY KEY, name text) SHARD BY (id)"
ROWS = "INSERT INTO item VALUES " + ", ".join(f"({i}, 'item {i}')" for i in range(1, 41))


@pytest.fixture
def endpoint(router):
    with databases("points", router) as made:
        made[0].run(TABLE, ROWS)
        yield made[0]




def leaf_statements(servers):
    return sum(server.endpoint.run("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%FROM pgmosaic_shards.%' "
                                   "AND pid <> pg_backend_pid()")[0][0] for server in servers)


@pytest.mark.parametrize("wanted", [True, False])
def test_leaves_are_read_where_configured(make_server, make_router, wanted):
    servers = [make_server(f"g{number}") for number in (1, 2)]
    router = make_router(servers, settings={"pool": {"leaf_statements": wanted}})
    router.endpoint.run(TABLE, ROWS)
    session = Session(router.endpoint)
    for run in (lambda key: session.simple(f"SELECT name FROM item WHERE id = {key}"),
                lambda key: session.extended("SELECT name FROM item WHERE id = $1", [str(key)])):
        for key in range(1, 21):
            answer, = run(key)
            assert answer.rows == [(f"item {key}".encode(),)]
        assert (leaf_statements(servers) > 0) == wanted
    session.close()


def test_a_backend_full_of_statements_still_answers(make_server, make_router):
    servers = [make_server("g1")]
    router = make_router(servers, settings={"pool": {"prepared_statements": 3}})
    router.endpoint.run(TABLE, ROWS)
    session = Session(router.endpoint)
    for turn in range(200):
        key = turn % 40 + 1
        answer, = session.simple(f"SELECT name AS c{turn % 5} FROM item WHERE id = {key}")
        assert answer.rows == [(f"item {key}".encode(),)] and answer.names == (f"c{turn % 5}",)
    session.close()


def test_a_table_that_changes_meanwhile(endpoint):
    """Columns come and go under readers of two protocols: no read fails, none shows other columns than some version."""
    over = threading.Event()
    problems, reads = [], []

    def read(extended):
        session = Session(endpoint)
        count = 0
        while not over.is_set():
            key = count % 40 + 1
            answer, = (session.extended("SELECT * FROM item WHERE id = $1", [str(key)]) if extended else
                       session.simple(f"SELECT * FROM item WHERE id = {key}"))
            names, values = answer.names, answer.rows[0] if answer.rows else None
            expected = (str(key).encode(), f"item {key}".encode())
            if answer.sqlstate or names not in (("id", "name"), ("id", "name", "extra")) or \
                    values not in (expected, (*expected, b"5")) or len(names) != len(values):
                problems.append(answer)
                break
            count += 1
        reads.append(count)
        session.close()

    threads = [threading.Thread(target=read, args=(number % 2 == 0,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(15):
        endpoint.run("ALTER TABLE item ADD COLUMN extra int DEFAULT 5")
        endpoint.run("ALTER TABLE item DROP COLUMN extra")
    over.set()
    for thread in threads:
        thread.join(timeout=60)
    assert problems == []
    assert min(reads) > 10
