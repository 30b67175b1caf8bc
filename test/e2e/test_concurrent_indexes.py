"""Indexes that are built while others work: nobody notices but for the index, and what is interrupted can be mended."""
import contextlib
import itertools
import signal
import threading
import time

import psycopg
import pytest

from harness import fsck
from harness.fixtures import SELF_CHECK
from harness.pair import databases
from harness.processes import PATIENCE, wait_until
from harness.schemas import group_endpoints, misplaced_rows

pytestmark = pytest.mark.skipif(SELF_CHECK, reason="about several servers")
ROWS = 2000
TABLES = {
    "sharded": "CREATE TABLE t (id int PRIMARY KEY, v int, w text) SHARD BY (id) WITH (shard_count = 8)",
    "reference": "CREATE TABLE t (id int PRIMARY KEY, v int, w text) WITH (table_type = 'reference')",
    "local": "CREATE TABLE t (id int PRIMARY KEY, v int, w text)",
}
FILL = f"INSERT INTO t SELECT g, g, 'w' || g FROM generate_series(1, {ROWS}) g"


def make(endpoint, kind):
    endpoint.run(TABLES[kind], FILL)


@pytest.fixture
def endpoint(router):
    with databases("indexes", router) as [made]:
        yield made


def index_of(endpoint, name="i"):
    """None, or whether it is valid."""
    rows = endpoint.run(f"SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{name}')")
    return rows[0][0] if rows else None


def parts(endpoint):
    """{group: [(index, valid, attached)]} of what the groups have of an index i."""
    return {name: server.run("SELECT x.relname, indisvalid, x.relispartition FROM pg_index JOIN pg_class x ON x.oid = indexrelid "
                             "WHERE x.relname ~ '^i(_[0-9]+_i[0-9]+)?(_cc.*)?$' ORDER BY 1")
            for name, server in group_endpoints(endpoint).items() if name != "home"}


class Load:
    """Sessions that write and read `t` all the time. Every key belongs to one of them, so each knows what it must find."""

    first_keys = itertools.count(100_000, 100_000)

    def __init__(self, endpoint, writers=4):
        self.first_key = next(self.first_keys)
        self.endpoint, self.over, self.problems, self.slowest, self.done = endpoint, threading.Event(), [], 0, 0
        self.threads = [threading.Thread(target=self.run, args=(number, writers)) for number in range(writers)]

    def run(self, number, writers):
        try:
            with self.endpoint.connect(prepare_threshold=2) as connection:
                key, mine = self.first_key + number, set()
                while not self.over.is_set():
                    begun = time.monotonic()
                    connection.execute("INSERT INTO t VALUES (%s, %s, 'x')", (key, key))
                    connection.execute("UPDATE t SET w = 'y' WHERE id = %s", (key,))
                    with connection.transaction():
                        connection.execute("UPDATE t SET w = 'z' WHERE id IN (%s, %s)", (key, number + 1))
                        connection.execute("SELECT count(*) FROM t WHERE v = %s", (key,))
                    mine.add(key)
                    found = connection.execute("SELECT id, w FROM t WHERE v = %s", (key,)).fetchall()
                    if found != [(key, "z")]:
                        self.problems.append(f"{key} is {found}")
                    if len(mine) % 3 == 0:
                        connection.execute("DELETE FROM t WHERE id = %s", (mine.pop(),))
                    self.slowest = max(self.slowest, time.monotonic() - begun)
                    self.done += 1
                    key += writers
        except psycopg.Error as error:
            self.problems.append(repr(error))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_until(lambda: self.done > 20 or self.problems, "the load to begin")
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()


@contextlib.contextmanager
def transaction(endpoint, *statements):
    """One that stays open and is rolled back in the end."""
    connection = endpoint.connect(autocommit=False)
    try:
        for sql in statements:
            connection.execute(sql)
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def busy_leaf(endpoint, group="g3"):
    """Somebody writes to one leaf of `t`, whose index waits for that; all other leaves are free."""
    server = group_endpoints(endpoint)[group]
    [(leaf,), *_] = server.run("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 't'::regclass ORDER BY 1")
    with transaction(server, f"LOCK TABLE {leaf} IN ROW EXCLUSIVE MODE") as holder:
        yield holder


class Command(threading.Thread):
    """A statement of a session of its own, in the background."""

    def __init__(self, endpoint, sql):
        super().__init__()
        self.connection, self.sql, self.error = endpoint.connect(), sql, None
        self.start()

    def run(self):
        try:
            self.connection.execute(self.sql)
        except psycopg.Error as error:
            self.error = error

    def end(self):
        self.join(60 * PATIENCE)
        assert not self.is_alive(), f"{self.sql} hangs"
        self.connection.close()
        return self.error


def operations(endpoint):
    return endpoint.run("SELECT kind, object, group_name, state, done, total FROM pgmosaic.operations ORDER BY group_name")


def waiting_at_home(endpoint):
    return group_endpoints(endpoint)["home"].run("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND database = "
                                                  "(SELECT oid FROM pg_database WHERE datname = current_database())")[0][0]


def one_waits(endpoint, groups):
    return sorted(row[3] for row in operations(endpoint)) == ["building", *["done"] * (groups - 1)]


@pytest.mark.alone
@pytest.mark.parametrize("kind", TABLES)
def test_a_load_goes_on(endpoint, kind):
    make(endpoint, kind)
    with Load(endpoint) as load:
        for number in range(3):
            endpoint.run(f"CREATE INDEX CONCURRENTLY i{number} ON t (v)",
                         f"CREATE UNIQUE INDEX CONCURRENTLY u{number} ON t (id, v) WHERE v > 0", f"REINDEX INDEX CONCURRENTLY i{number}")
            endpoint.run("REINDEX TABLE CONCURRENTLY t", f"DROP INDEX CONCURRENTLY u{number}")
    assert load.problems == []
    assert load.slowest < 5 * PATIENCE
    assert fsck.differences(endpoint) == [] and misplaced_rows(endpoint) == []
    assert [index_of(endpoint, f"i{number}") for number in range(3)] == [True] * 3
    assert endpoint.run("SET enable_seqscan = off", "SELECT count(*) FROM t WHERE v BETWEEN 1 AND 100") == [(100,)]


@pytest.mark.alone
@pytest.mark.parametrize("kind", TABLES)
def test_nobody_waits_behind_one_who_waits(endpoint, kind):
    """A long transaction holds the index up, and nobody else."""
    make(endpoint, kind)
    for sql, before in ("CREATE INDEX CONCURRENTLY i ON t (v)", None), ("REINDEX INDEX CONCURRENTLY i", True), \
            ("DROP INDEX CONCURRENTLY i", True):
        assert index_of(endpoint) is before
        with transaction(endpoint, "UPDATE t SET w = 'long' WHERE id > 1950") as holder, Load(endpoint) as load:
            command = Command(endpoint, sql)
            wait_until(lambda: operations(endpoint) or sql.startswith("DROP"), "the command to begin")
            done = load.done
            wait_until(lambda: load.done > done + 200 or load.problems, "the load to go on")
            assert load.problems == [] and load.slowest < 2 * PATIENCE and command.is_alive()
            holder.rollback()
            assert command.end() is None
        assert load.problems == []
    assert index_of(endpoint) is None and fsck.differences(endpoint) == []


def test_progress(endpoint):
    make(endpoint, "sharded")
    admin = endpoint.change(database="pgmosaic")
    with busy_leaf(endpoint) as holder:
        command = Command(endpoint, "CREATE INDEX CONCURRENTLY i ON t (v)")
        wait_until(lambda: one_waits(endpoint, 4), "the other groups to be done")
        rows = operations(endpoint)
        assert {row[:2] for row in rows} == {("CREATE INDEX CONCURRENTLY", "\"public\".\"i\"")}
        assert [row[2:4] for row in rows] == [("g1", "done"), ("g2", "done"), ("g3", "building"), ("g4", "done")]
        assert [row[4:] for row in rows if row[2] != "g3"] == [(2, 2)] * 3 and rows[2][4] < rows[2][5] == 2
        shown = [row for row in admin.run("SHOW OPERATIONS") if row[2] == endpoint.database]
        assert [(row[5], *row[6:10]) for row in shown] == [(row[1], *row[2:]) for row in rows]
        assert index_of(endpoint) is False
        assert any("is not valid" in text for _, _, text in fsck.differences(endpoint))
        holder.rollback()
        assert command.end() is None
    assert operations(endpoint) == [] and index_of(endpoint) is True and fsck.differences(endpoint) == []


def test_schema_changes_wait_for_the_index(endpoint):
    make(endpoint, "sharded")
    with busy_leaf(endpoint) as holder:
        command = Command(endpoint, "CREATE INDEX CONCURRENTLY i ON t (v)")
        wait_until(lambda: index_of(endpoint) is False, "the index to be there")
        others = [Command(endpoint, sql) for sql in ("DROP INDEX i", "ALTER TABLE t ADD COLUMN more int",
                                                     "CREATE INDEX CONCURRENTLY j ON t (w)")]
        wait_until(lambda: waiting_at_home(endpoint) == 3, "all three to wait at home")
        holder.rollback()
        assert [one.end() for one in (command, *others)] == [None] * 4
    assert index_of(endpoint) is None and index_of(endpoint, "j") is True and fsck.differences(endpoint) == []


MENDS = {
    "reindex": (["REINDEX INDEX CONCURRENTLY i"], True),
    "plain": (["REINDEX INDEX i"], True),
    "again": (["DROP INDEX CONCURRENTLY i", "CREATE INDEX CONCURRENTLY i ON t (v)"], True),
    "drop": (["DROP INDEX i"], None),
    "table": (["DROP TABLE t", TABLES["sharded"]], None),
}


def mend(endpoint, how):
    statements, after = MENDS[how]
    endpoint.run(*statements)
    assert index_of(endpoint) is after and fsck.differences(endpoint) == []
    assert {valid and (attached or name == "i") for group in parts(endpoint).values() for name, valid, attached in group} <= {True}


@pytest.mark.parametrize("how", MENDS)
def test_cancelled(endpoint, how):
    make(endpoint, "sharded")
    with busy_leaf(endpoint):
        command = Command(endpoint, "CREATE INDEX CONCURRENTLY i ON t (v)")
        wait_until(lambda: one_waits(endpoint, 4), "one group to wait")
        command.connection.cancel()
        assert isinstance(command.end(), psycopg.errors.QueryCanceled)
    assert index_of(endpoint) is False and operations(endpoint) == []
    assert any("is not valid" in text for _, _, text in fsck.differences(endpoint))
    mend(endpoint, how)


@pytest.mark.alone
@pytest.mark.parametrize("setting", ["statement_timeout", "lock_timeout"])
def test_the_users_own_limits(endpoint, setting):
    make(endpoint, "sharded")
    with busy_leaf(endpoint):
        for sql in ("CREATE INDEX CONCURRENTLY i ON t (v)", "DROP INDEX CONCURRENTLY i", "REINDEX INDEX CONCURRENTLY i"):
            with endpoint.connect() as connection:
                connection.execute(f"SET {setting} = '{int(600 * PATIENCE)}ms'")
                with pytest.raises((psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable)):
                    connection.execute(sql)
                assert connection.execute("SELECT count(*) FROM t").fetchall() == [(ROWS,)]
            assert index_of(endpoint) is False
    mend(endpoint, "again")


def test_the_session_is_terminated(endpoint):
    make(endpoint, "sharded")
    with busy_leaf(endpoint):
        command = Command(endpoint, "CREATE INDEX CONCURRENTLY i ON t (v)")
        wait_until(lambda: one_waits(endpoint, len(group_endpoints(endpoint)) - 1), "one group to wait")
        endpoint.run(f"SELECT pg_terminate_backend({command.connection.info.backend_pid})")
        error = command.end()
        assert error.sqlstate == "57P01" and error.diag.message_detail is None
        wait_until(lambda: operations(endpoint) == [], "the command to end")
    assert index_of(endpoint) is False
    mend(endpoint, "reindex")


@pytest.fixture
def cluster(make_server, make_router):
    servers = [make_server(f"g{number}") for number in (1, 2, 3)]
    return servers, make_router(servers)


@pytest.mark.parametrize("how", MENDS)
def test_the_router_is_killed(cluster, how):
    servers, router = cluster
    make(router.endpoint, "sharded")
    with busy_leaf(router.endpoint):
        command = Command(router.endpoint, "CREATE INDEX CONCURRENTLY i ON t (v)")
        wait_until(lambda: one_waits(router.endpoint, 3), "one group to wait")
        router.kill()
        assert command.end() is not None
    router.start()
    assert index_of(router.endpoint) is False
    assert any("is not valid" in text for _, _, text in fsck.differences(router.endpoint))
    mend(router.endpoint, how)


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_server_is_killed(cluster, victim):
    servers, router = cluster
    make(router.endpoint, "sharded")
    with busy_leaf(router.endpoint):
        command = Command(router.endpoint, "CREATE INDEX CONCURRENTLY i ON t (v)")
        wait_until(lambda: index_of(router.endpoint) is False and operations(router.endpoint), "the index to be there")
        servers[victim].stop(signal.SIGQUIT)
    error = command.end()
    assert error.sqlstate[:2] in ("08", "57") if error else victim == 1  # whose part was finished
    servers[victim].start()
    wait_until(lambda: answers(router.endpoint), "all groups to answer")
    assert index_of(router.endpoint) is (error is None)
    mend(router.endpoint, "reindex")


def answers(endpoint):
    with contextlib.suppress(psycopg.Error):
        return endpoint.run("SELECT count(*) FROM t") == [(ROWS,)]
