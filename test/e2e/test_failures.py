"""What fails must leave nothing half done: passwords, databases, session state, batches."""
import signal
import threading

import psycopg
import pytest

from harness.pair import databases
from harness.processes import PATIENCE, wait_until
from harness.raw import SYNC, RawClient, bind, execute, fields, parse, query
from harness.wire import Session


@pytest.fixture(scope="module")
def endpoint(router):
    with databases("failures", router) as [made]:
        made.run("CREATE TABLE t (id int PRIMARY KEY, v int) SHARD BY (id)",
                 "INSERT INTO t VALUES " + ", ".join(f"({i}, {i})" for i in range(1, 41)),
                 "CREATE TABLE b (id int PRIMARY KEY, n int) SHARD BY (id)", "INSERT INTO b VALUES (1, 1)")
        yield made


def group_endpoint(endpoint, name):
    """The server of a group, as the router's own clients never see it."""
    return endpoint.change(port=dict(endpoint.run("SELECT group_name, port FROM pgmosaic.groups"))[name])


def kinds_of(messages):
    return "".join(kind for kind, _ in messages if kind not in "SN")


@pytest.fixture
def alice(endpoint):
    endpoint.run("CREATE ROLE failures_alice LOGIN PASSWORD 'good'", "GRANT SELECT ON t TO failures_alice")
    session = Session(endpoint, user="failures_alice", password="good")
    yield session
    session.close()
    endpoint.run("REVOKE ALL ON t FROM failures_alice", "DROP ROLE failures_alice")


def reads_all(session):
    return session.simple("SELECT count(*) FROM t")[0].rows == [(b"40",)]


def renew_backends(endpoint):
    """All pools give up their backends when the settings of a role change."""
    endpoint.run("ALTER ROLE failures_alice SET work_mem = '5MB'")


def test_a_refused_password_changes_nothing(endpoint, alice):
    endpoint.run("CREATE ROLE failures_mallory LOGIN PASSWORD 'm'")
    mallory = Session(endpoint, user="failures_mallory", password="m")
    for sql, sqlstate in (("ALTER ROLE failures_alice PASSWORD 'x'", "42501"), ("CREATE ROLE failures_alice PASSWORD 'x'", "42501"),
                          ("ALTER ROLE pgmosaic PASSWORD 'x'", "42501")):
        assert mallory.simple(sql)[0].sqlstate == sqlstate
        assert mallory.extended(sql)[0].sqlstate == sqlstate
    mallory.close()
    endpoint.run("DROP ROLE failures_mallory")
    renew_backends(endpoint)
    assert reads_all(alice)
    Session(endpoint, user="failures_alice", password="good").close()


@pytest.mark.parametrize("undo", [["ROLLBACK"], ["ROLLBACK TO a", "COMMIT"], ["SELECT 1 / 0", "COMMIT"]])
def test_a_password_taken_back_is_the_old_one(endpoint, alice, undo):
    session = Session(endpoint)
    for sql in ["BEGIN", "SAVEPOINT a", "ALTER ROLE failures_alice PASSWORD 'new'", *undo, "BEGIN", "SELECT 1", "COMMIT"]:
        session.simple(sql)
    session.close()
    renew_backends(endpoint)
    assert reads_all(alice)


def test_the_password_of_the_current_user(endpoint, alice):
    session = Session(endpoint)
    session.simple("SET ROLE failures_alice")
    assert session.simple("ALTER ROLE CURRENT_USER PASSWORD 'newer'")[0].tag == "ALTER ROLE"
    session.close()
    renew_backends(endpoint)
    assert reads_all(alice)
    assert endpoint.run("SELECT count(*) FROM t") == [(40,)]
    Session(endpoint, user="failures_alice", password="newer").close()


@pytest.mark.parametrize("group", ["g1", "g3"])
def test_a_refused_drop_database_drops_nothing(endpoint, group):
    endpoint.run("CREATE DATABASE failures_kept")
    kept = endpoint.change(database="failures_kept")
    kept.run("CREATE TABLE k (id int PRIMARY KEY) SHARD BY (id)", "INSERT INTO k VALUES (1), (2), (3), (4), (5), (6)")
    with group_endpoint(kept, group).connect() as connection:
        connection.execute("SELECT 1")
        with pytest.raises(psycopg.errors.ObjectInUse):
            endpoint.run("DROP DATABASE failures_kept")
    assert kept.run("SELECT count(*) FROM k") == [(6,)]
    endpoint.drop_database("failures_kept")


def test_lost_state_ends_the_session(endpoint):
    session = Session(endpoint)
    session.simple("CREATE TEMP TABLE mine (a int)")
    session.simple("SELECT pg_advisory_lock(77)")
    home = group_endpoint(endpoint, "g1")
    [(count,)] = home.run("SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77")
    assert count == 1

    def ended():
        answers = session.simple("SELECT v FROM t WHERE id = 1")
        return not answers or answers[0].sqlstate == "08006"

    try:
        wait_until(ended, "the end of the session")
    except psycopg.OperationalError:
        pass
    with pytest.raises(psycopg.OperationalError):
        session.simple("SELECT 1")
    session.close()


def test_a_query_behind_a_failed_batch_is_dropped(endpoint):
    client = RawClient(endpoint)
    client.login()
    client.send(parse("SELECT 1 / (v - v) FROM t WHERE id = 1"), bind(), execute(), query("INSERT INTO t VALUES (900, 1)"),
                query("SELECT 1; SELECT 2"), SYNC, query("SELECT count(*) FROM t"))
    first, second = client.read_until("Z"), client.read_until("Z")
    assert kinds_of(first) == "12EZ" and fields(next(body for kind, body in first if kind == "E"))["C"] == "22012"
    assert [body for kind, body in second if kind == "D"] == [b"\0\1\0\0\0\x0240"]
    client.close()


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN; INSERT INTO t VALUES (1, 1)"])
def test_a_block_that_cannot_begin_is_aborted(make_server, make_router, begin):
    """A client that does not look at errors must not find its statements committed one by one."""
    servers = [make_server("g1"), make_server("g2")]
    router = make_router(servers)
    router.endpoint.run("CREATE TABLE t (id int PRIMARY KEY, v int) SHARD BY (id)")
    session = Session(router.endpoint)
    router.endpoint.run("CREATE TABLE other (a int)")  # the session must look at the schema again
    servers[0].stop(signal.SIGQUIT)
    assert session.simple(begin)[-1].sqlstate[:2] in ("08", "57") and session.transaction == "INERROR"
    servers[0].start()
    for key in range(2, 6):
        assert session.simple(f"INSERT INTO t VALUES ({key}, 1)")[0].sqlstate == "25P02"
    assert session.simple("COMMIT")[0].tag == "ROLLBACK"
    assert session.simple("SELECT count(*) FROM t")[0].rows == [(b"0",)]
    session.close()


def test_a_cursor_with_hold_at_the_end_of_a_string(endpoint):
    session = Session(endpoint)
    answers = session.simple("SELECT 1; DECLARE c CURSOR WITH HOLD FOR SELECT id FROM t ORDER BY id")
    assert [answer.tag for answer in answers] == ["SELECT 1", "DECLARE CURSOR"]
    assert session.simple("FETCH 2 FROM c")[0].rows == [(b"1",), (b"2",)]
    session.close()


@pytest.mark.parametrize("sql, change, back", [
    ("SELECT t.* FROM t JOIN b ON b.id = t.id", "ALTER TABLE b ADD COLUMN more int", "ALTER TABLE b DROP COLUMN more"),
    ("SELECT v FROM t WHERE EXISTS (SELECT * FROM b WHERE b.id = t.id)", "ALTER TABLE b ADD COLUMN more int",
     "ALTER TABLE b DROP COLUMN more"),
    ("SELECT t.v FROM t JOIN b ON b.id = t.id", "ALTER TABLE b ADD COLUMN v int", "ALTER TABLE b DROP COLUMN v"),
    ("SELECT v FROM t JOIN b USING (id) WHERE b.n = 1", "ALTER TABLE b ALTER COLUMN n TYPE bigint",
     "ALTER TABLE b ALTER COLUMN n TYPE int"),
])
def test_statements_whose_columns_stay_go_on(endpoint, sql, change, back):
    with endpoint.connect() as connection:
        before = connection.execute(sql, prepare=True).fetchall()
        for statement in (change, back):
            endpoint.run(statement)
            assert connection.execute(sql, prepare=True).fetchall() == before


def test_a_limit_of_the_role_holds_for_schema_changes(endpoint):
    endpoint.run("CREATE ROLE failures_migrator LOGIN SUPERUSER PASSWORD 'm'", "ALTER ROLE failures_migrator SET lock_timeout = '300ms'")
    try:
        with endpoint.connect(autocommit=False) as holder:
            holder.execute("SELECT count(*) FROM t")
            with endpoint.connect(user="failures_migrator", password="m") as migrator:
                for prepared in (False, True):
                    with pytest.raises(psycopg.errors.LockNotAvailable):
                        migrator.execute("ALTER TABLE t ADD COLUMN never int", prepare=prepared)
    finally:
        endpoint.run("DROP ROLE failures_migrator")


@pytest.mark.parametrize("prepared", [False, True])
def test_a_schema_change_that_waits_can_be_cancelled(endpoint, prepared):
    with endpoint.connect(autocommit=False) as holder, endpoint.connect() as changer:
        holder.execute("SELECT count(*) FROM t")
        timer = threading.Timer(1.5 * PATIENCE, changer.cancel)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            changer.execute("ALTER TABLE t ADD COLUMN never int", prepare=prepared)
        timer.join()
    assert endpoint.run("SELECT count(*) FROM pg_attribute WHERE attname = 'never'") == [(0,)]


def test_a_transaction_that_has_lost_a_group_sees_nothing_else_there(endpoint):
    """Another backend of the group would answer without what the transaction has done."""
    groups = {}
    for key in range(100, 140):
        groups.setdefault(endpoint.run(f"EXPLAIN SELECT * FROM t WHERE id = {key}")[0][0].split()[-1], []).append(key)
    lost, *others = sorted(groups)
    with endpoint.connect(autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute(f"INSERT INTO t VALUES ({groups[lost][0]}, 1)")
        assert group_endpoint(endpoint, lost).run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                                                  "WHERE state = 'idle in transaction' AND query LIKE 'INSERT INTO t %'") == [(True,)]
        with pytest.raises(psycopg.OperationalError):
            for _ in range(20):  # the router notices at one of them
                connection.execute("INSERT INTO t VALUES " + ", ".join(f"({groups[other].pop()}, 1)" for other in others))
                assert connection.execute(f"SELECT v FROM t WHERE id = {groups[lost][0]}").fetchall() == [(1,)]
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.execute("ROLLBACK")
    assert endpoint.run("SELECT count(*) FROM t WHERE id >= 100") == [(0,)]


@pytest.mark.parametrize("fails", ["SELECT 1 / (v - v) FROM t", "SELECT 1 / (v - v) FROM t WHERE id = 1", "SELECT nothing"])
def test_settings_of_a_failed_block(endpoint, oracle, fails):
    """The client hears that they are what they were before, once: with the error or with ROLLBACK."""
    answers = []
    for side in (endpoint, oracle):
        with side.connect() as connection:
            before = connection.info.parameter_status("TimeZone")
            if side is oracle:
                connection.execute("CREATE TEMP TABLE t AS SELECT i AS id, i AS v FROM generate_series(1, 40) i")
            for statement in ("BEGIN", "UPDATE t SET v = v", "SET TimeZone = 'Asia/Tokyo'"):
                connection.execute(statement)
            told = connection.info.parameter_status("TimeZone")
            with pytest.raises(psycopg.Error) as failed:
                connection.execute(fails)
            connection.execute("ROLLBACK")
            now = connection.info.parameter_status("TimeZone")
            answers.append((told, now == before, failed.value.sqlstate, connection.execute("SHOW TimeZone").fetchone() == (before,)))
    assert answers[0] == answers[1]
    assert answers[0][:2] == ("Asia/Tokyo", True)


def test_a_failed_block_lets_its_locks_go(endpoint):
    """On all groups, as one PostgreSQL does, before its client says ROLLBACK."""
    with endpoint.connect() as failed, endpoint.connect() as other:
        other.execute("SET lock_timeout = '20s'")
        failed.execute("BEGIN")
        failed.execute("UPDATE t SET v = v WHERE id < 20")
        failed.execute("SAVEPOINT a")
        failed.execute("UPDATE t SET v = v WHERE id >= 20")
        with pytest.raises(psycopg.errors.DivisionByZero):
            failed.execute("SELECT 1 / (v - v) FROM t WHERE id = 30")
        other.execute("UPDATE t SET v = v WHERE id >= 20")
        failed.execute("ROLLBACK TO a")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("BEGIN")
            other.execute("SET LOCAL lock_timeout = '100ms'")
            other.execute("UPDATE t SET v = v WHERE id < 20")
        other.execute("ROLLBACK")
        failed.execute("RELEASE a")
        with pytest.raises(psycopg.errors.UndefinedColumn):  # nobody but the router or the home sees it
            failed.execute("SELECT nothing FROM t")
        other.execute("UPDATE t SET v = v")
        failed.execute("ROLLBACK")
        assert failed.execute("SELECT count(*) FROM t").fetchone() == (40,)
