"""Views over sharded tables that change while statements use them, and what sessions must not do to each other's."""
import threading

import psycopg
import pytest

from harness.fixtures import SELF_CHECK
from harness.pair import databases
from harness.processes import PATIENCE, wait_until
from harness.schemas import group_endpoints

pytestmark = pytest.mark.skipif(SELF_CHECK, reason="about several servers")
ROWS = 40


@pytest.fixture
def endpoint(router):
    with databases("views", router) as [made]:
        made.run("CREATE TABLE sale (id int PRIMARY KEY, shop text, total int) SHARD BY HASH (id)",
                 f"INSERT INTO sale SELECT i, 'shop ' || i % 3, i FROM generate_series(1, {ROWS}) i")
        yield made


class Asking(threading.Thread):
    """One statement, beside others: its rows, or the SQLSTATE."""

    def __init__(self, connection, sql):
        super().__init__(daemon=True)
        self.connection, self.sql, self.outcome = connection, sql, None
        self.start()

    def run(self):
        try:
            self.outcome = self.connection.execute(self.sql).fetchall()
        except psycopg.Error as error:
            self.outcome = error.sqlstate

    def end(self):
        self.join(30 * PATIENCE)
        assert not self.is_alive(), f"{self.sql} waits for ever"
        return self.outcome


def somebody_waits(endpoint):
    groups = group_endpoints(endpoint).values()
    return any(group.run("SELECT 1 FROM pg_locks WHERE NOT granted") for group in groups)


@pytest.mark.parametrize("begin, new, right, later", [
    ("SELECT id, shop FROM sale WHERE id = 8", "SELECT id, shop FROM sale WHERE id = {key}", lambda key: [(key,)], None),
    ("SELECT shop, id::bigint AS id FROM sale", "SELECT shop, count(*) AS id FROM sale WHERE {key} > 0 GROUP BY shop", None, "0A000"),
])
def test_a_view_is_replaced_while_a_statement_waits_for_it(endpoint, begin, new, right, later):
    for key in (9, 10, 11, 12, 13):
        endpoint.run("DROP VIEW IF EXISTS v", f"CREATE VIEW v AS {begin}", "SELECT id FROM v")
        with endpoint.connect(autocommit=True) as changer, endpoint.connect(autocommit=True) as reader:
            changer.execute("BEGIN")
            changer.execute(f"CREATE OR REPLACE VIEW v AS {new.format(key=key)}")
            asking = Asking(reader, "SELECT id FROM v" if right else "SELECT count(*) FROM v")
            wait_until(lambda: somebody_waits(endpoint), "the statement waits")
            changer.execute("COMMIT")
            assert asking.end() in ("40001", right(key) if right else later)
            again = Asking(reader, "SELECT id FROM v" if right else "SELECT count(*) FROM v")
            assert again.end() == (right(key) if right else later)


@pytest.mark.parametrize("kind", ["local", "reference"])
@pytest.mark.parametrize("change", [["CREATE OR REPLACE VIEW v AS SELECT id FROM sale"],
                                    ["DROP VIEW v", "CREATE VIEW v AS SELECT id FROM sale"],
                                    ["DROP VIEW v", "ALTER TABLE sale RENAME TO v"]], ids=["replaced", "another", "a table"])
def test_a_view_is_one_of_a_sharded_table_now(endpoint, kind, change):
    """The home, or any one group, could answer for the view that was there."""
    endpoint.run(f"CREATE TABLE one (id int PRIMARY KEY) WITH (table_type = '{kind}')", "INSERT INTO one VALUES (1)",
                 "CREATE VIEW v AS SELECT id FROM one")
    with endpoint.connect() as changer, endpoint.connect() as reader, endpoint.connect(prepare_threshold=0) as other:
        other.execute("SELECT count(*) FROM v")
        changer.execute("BEGIN")
        for sql in change:
            changer.execute(sql)
        asking = [Asking(connection, "SELECT count(*) FROM v") for connection in (reader, other)]
        wait_until(lambda: somebody_waits(endpoint), "the statements to wait")
        changer.execute("COMMIT")
        assert all(one.end() in ("40001", [(ROWS,)]) for one in asking)
        assert [connection.execute("SELECT count(*) FROM v").fetchall() for connection in (reader, other)] == [[(ROWS,)]] * 2


def test_a_view_goes_while_its_definition_is_read(endpoint):
    """The question waits for the lock on the table, and finds it gone."""
    for number in range(8):
        endpoint.run(f"CREATE TABLE gone_{number} (id int PRIMARY KEY) SHARD BY (id) WITH (shard_count = 2)",
                     f"CREATE VIEW going_{number} AS SELECT id FROM gone_{number}")
        with endpoint.connect() as holder, endpoint.connect() as other:
            holder.execute("BEGIN")
            holder.execute(f"DROP TABLE gone_{number} CASCADE")
            asking = Asking(other, f"SELECT count(*), sum(id) FROM going_{number}")
            wait_until(lambda: somebody_waits(endpoint), "the question to wait")
            holder.execute("COMMIT")
            asking.end()
        assert asking.outcome == "42P01"


def test_an_old_snapshot_teaches_nobody(endpoint):
    """The catalogs as a REPEATABLE READ transaction sees them are not what others run."""
    for key in range(1, 6):
        endpoint.run(f"CREATE VIEW seen_{key} AS SELECT id FROM sale WHERE id = {key}")
    with endpoint.connect(autocommit=True) as old:
        old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        old.execute("SELECT count(*) FROM sale")
        for key in range(1, 6):
            endpoint.run(f"CREATE OR REPLACE VIEW seen_{key} AS SELECT id FROM sale WHERE id = {key + 5}")
        endpoint.run("CREATE VIEW late AS SELECT id FROM sale")
        for key in range(1, 6):
            assert old.execute(f"SELECT id FROM seen_{key}").fetchall() == [(key + 5,)]
        assert old.execute("SELECT count(*) FROM late").fetchall() == [(ROWS,)]
        old.execute("COMMIT")
    for key in range(1, 6):
        assert endpoint.run(f"SELECT id FROM seen_{key}") == [(key + 5,)]
    assert endpoint.run("SELECT count(*) FROM late") == [(ROWS,)]


@pytest.mark.parametrize("setting", ["standard_conforming_strings = off", "client_encoding = LATIN1", "DateStyle = 'German'",
                                     "quote_all_identifiers = on", "search_path = ''"])
def test_settings_of_the_first_reader_are_its_own(endpoint, setting):
    keys = [f"a\\b é {number}" for number in range(6)]
    endpoint.run("CREATE TABLE named (k text PRIMARY KEY, d date) SHARD BY HASH (k)")
    with endpoint.connect(autocommit=True) as maker:
        for number, key in enumerate(keys):
            maker.execute("INSERT INTO named VALUES (%s, '2024-02-03')", (key,))
            maker.execute(f"CREATE VIEW of_{number} AS SELECT k FROM named WHERE k = '{key}' AND d = '2024-02-03'")
    with endpoint.connect(autocommit=True) as odd:
        odd.execute(f"SET {setting}")
        for number in range(len(keys)):
            assert len(odd.execute(f"SELECT 1 FROM public.of_{number}").fetchall()) == 1
    for number, key in enumerate(keys):
        assert endpoint.run(f"SELECT k FROM of_{number}") == [(key,)]


def test_a_failed_block_leaves_no_plan_behind(endpoint):
    endpoint.run("CREATE VIEW v AS SELECT * FROM sale")
    with endpoint.connect(autocommit=True) as failed:
        failed.execute("BEGIN")
        for sql, sqlstate in (("SELECT 1/0", "22012"), ("SELECT count(*) FROM v", "25P02")):
            with pytest.raises(psycopg.Error) as error:
                failed.execute(sql)
            assert error.value.sqlstate == sqlstate
        failed.execute("ROLLBACK")
        assert failed.execute("SELECT count(*) FROM v").fetchall() == [(ROWS,)]


def test_a_deadlock_over_an_unread_view_ends(endpoint):
    endpoint.run("CREATE TABLE part (id int PRIMARY KEY) SHARD BY HASH (id)", "CREATE VIEW parts AS SELECT * FROM part")
    with endpoint.connect(autocommit=True) as reader, endpoint.connect(autocommit=True) as changer:
        reader.execute("BEGIN")
        reader.execute("UPDATE sale SET total = 0 WHERE id = 1")
        changer.execute("BEGIN")
        changer.execute("ALTER TABLE part ADD COLUMN z int")
        waiting = Asking(changer, "UPDATE sale SET total = 1 WHERE id = 1 RETURNING total")
        wait_until(lambda: somebody_waits(endpoint), "the update waits")
        asking = Asking(reader, "SELECT count(*) FROM parts")
        outcomes = [asking.end()]
        if outcomes != ["40P01"]:
            reader.execute("ROLLBACK")
        outcomes.append(waiting.end())
        assert "40P01" in outcomes, outcomes
    assert endpoint.run("SELECT count(*) FROM parts") == [(0,)]


def test_a_pipeline_reads_a_view_of_what_it_has_changed(endpoint):
    endpoint.run("CREATE TABLE here (id int)", "CREATE VIEW v AS SELECT * FROM sale")
    with endpoint.connect(autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute("ALTER TABLE sale ADD COLUMN q int")
        with connection.pipeline():
            connection.execute("INSERT INTO here VALUES (1)")
            counted = connection.execute("SELECT count(*) FROM v")
        assert counted.fetchall() == [(ROWS,)]
        connection.execute("ROLLBACK")


def test_the_time_of_a_view_in_a_block(endpoint):
    """A group that comes to the transaction later would tell another time than the one before."""
    endpoint.run("CREATE TABLE event (id int PRIMARY KEY, at timestamptz) SHARD BY HASH (id)",
                 "CREATE VIEW begun AS SELECT * FROM event WHERE at >= now()")
    with endpoint.connect(autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT FROM event WHERE id = 1")
        connection.execute("INSERT INTO event SELECT i, now() FROM generate_series(1, 12) i")
        outcomes = set()
        for key in range(1, 13):
            connection.execute("SAVEPOINT s")
            try:
                outcomes.add(len(connection.execute("SELECT id FROM begun WHERE id = %s", (key,)).fetchall()))
            except psycopg.errors.FeatureNotSupported:
                outcomes.add("0A000")
                connection.execute("ROLLBACK TO s")
        connection.execute("ROLLBACK")
    assert outcomes == {1, "0A000"}
