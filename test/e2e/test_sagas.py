"""Sagas: steps in transactions of their own, and compensations that run exactly once, as their owner, whoever dies."""
import os
import random
import signal
import subprocess
import threading

import psycopg
import pytest

from harness.bank import Threads
from harness.cluster import scram_verifier
from harness.fault_proxy import Fault, FaultProxy
from harness.fixtures import SELF_CHECK
from harness.processes import PATIENCE, postgres_program, wait_until
from harness.soak_chaos import kill_at_once

pytestmark = pytest.mark.skipif(SELF_CHECK, reason="about the router")

ACCOUNTS, START = 12, 100
REFUND = "UPDATE account SET balance = balance + $1 WHERE id = $2"
TAKE_BACK = "UPDATE account SET balance = balance - $1 WHERE id = $2"


@pytest.fixture
def servers(make_server):
    return [make_server(name) for name in ("g1", "g2", "g3")]


def tables(router):
    router.endpoint.run(
        "CREATE TABLE account (id int PRIMARY KEY, balance int CHECK (balance >= 0)) SHARD BY (id)",
        f"INSERT INTO account SELECT i, {START} FROM generate_series(1, {ACCOUNTS}) i",
        "CREATE TABLE undone (saga text, step text)", "CREATE TABLE trouble (kind text)")
    return router


@pytest.fixture
def router(servers, make_router):
    return tables(make_router(servers))


def left(router):
    return router.endpoint.run("SELECT count(*) FROM pgmosaic.sagas")[0][0]


def ended(router):
    wait_until(lambda: left(router) == 0, "all sagas to end", 60)


def total(router):
    return router.endpoint.run("SELECT sum(balance) FROM account")[0][0]


def balance(router, account):
    return router.endpoint.run(f"SELECT balance FROM account WHERE id = {account}")[0][0]


def begin(connection, name="transfer", **more):
    if more:
        return connection.execute("SELECT pgmosaic.saga_begin(%s, %s)", (name, more["timeout"])).fetchone()[0]
    return connection.execute("SELECT pgmosaic.saga_begin(%s)", (name,)).fetchone()[0]


def debit(connection, saga, account, amount):
    with connection.transaction():
        connection.execute("UPDATE account SET balance = balance - %s WHERE id = %s", (amount, account))
        connection.execute("SELECT pgmosaic.saga_step(%s, 'debit', %s, %s, %s)", (saga, REFUND, amount, account))


def credit(connection, saga, account, amount):
    with connection.transaction():
        connection.execute("UPDATE account SET balance = balance + %s WHERE id = %s", (amount, account))
        connection.execute("SELECT pgmosaic.saga_step(%s, 'credit', %s, %s, %s)", (saga, TAKE_BACK, amount, account))


def note(step):
    return f"INSERT INTO undone VALUES ('x', '{step}')"


def two_phase(router):
    with router.endpoint.change(database="pgmosaic").connect(cursor_factory=psycopg.ClientCursor) as connection:
        cursor = connection.execute("SHOW STATS")
        column = [column.name for column in cursor.description].index("distributed_commits")
        return next(int(row[column]) for row in cursor.fetchall() if row[0] == "all")


def records(router):
    """Rows of ours on the groups, the fences of ended sagas aside."""
    found = []
    for server in router.servers:
        for database in ("postgres", "pgmosaic_shards_postgres"):
            if server is not router.servers[0] and database != "postgres":
                continue
            found += server.endpoint.change(database=database).run(
                "SELECT saga, n, state FROM pg_catalog.pgmosaic_saga_steps WHERE n > 0 OR state <> 'closed'")
    return found + router.servers[0].endpoint.run("SELECT id, 0, name FROM pg_catalog.pgmosaic_sagas")


def test_a_transfer_is_finished(router):
    with router.endpoint.connect() as connection:
        before = two_phase(router)
        saga = begin(connection)
        assert len(saga) == 32
        assert connection.execute("SELECT saga_id, saga_name, usename, state, steps, last_error FROM pgmosaic.sagas").fetchall() == [
            (saga, "transfer", "postgres", "running", [], None)]
        debit(connection, saga, 1, 30)
        with connection.transaction():
            connection.execute("UPDATE account SET balance = balance + 30 WHERE id = 2")
            connection.execute("SELECT pgmosaic.saga_finish(%s)", (saga,))
        assert two_phase(router) == before
        assert connection.execute("SELECT * FROM pgmosaic.sagas").fetchall() == []
    assert (balance(router, 1), balance(router, 2)) == (70, 130)
    wait_until(lambda: records(router) == [], "the saga to be forgotten")


def test_compensations_run_backward(router):
    with router.endpoint.connect() as connection:
        saga = begin(connection)
        for step in range(5):
            connection.execute("SELECT pgmosaic.saga_step(%s, %s, 'INSERT INTO undone VALUES ($1, $2)', %s, %s)",
                               (saga, f"step {step}", saga, step))
        debit(connection, saga, 3, 10)
        assert connection.execute("SELECT steps FROM pgmosaic.sagas").fetchone()[0] == [f"step {n}" for n in range(5)] + ["debit"]
        assert connection.execute("SELECT pgmosaic.saga_compensate(%s)", (saga,)).fetchone() == ("compensated",)
        assert balance(router, 3) == START
        assert connection.execute("SELECT step FROM undone ORDER BY ctid").fetchall() == [(str(n),) for n in (4, 3, 2, 1, 0)]
        with pytest.raises(psycopg.errors.UndefinedObject):
            connection.execute("SELECT pgmosaic.saga_compensate(%s)", (saga,))
    assert records(router) == []


def test_a_transaction_that_fails_leaves_no_step(router):
    with router.endpoint.connect() as connection:
        saga = begin(connection)
        with pytest.raises(psycopg.errors.CheckViolation):
            debit(connection, saga, 1, 1000)
        connection.execute("BEGIN")
        connection.execute("SELECT pgmosaic.saga_step(%s, 'kept', %s)", (saga, note("kept")))
        connection.execute("SAVEPOINT s")
        connection.execute("SELECT pgmosaic.saga_step(%s, 'lost', %s)", (saga, note("lost")))
        connection.execute("ROLLBACK TO s")
        connection.execute("COMMIT")
        connection.execute("BEGIN")
        connection.execute("SELECT pgmosaic.saga_step(%s, 'lost', %s)", (saga, note("lost")))
        connection.execute("SELECT pgmosaic.saga_finish(%s)", (saga,))
        connection.execute("ROLLBACK")
        with connection.pipeline():  # one implicit transaction
            connection.execute("SELECT pgmosaic.saga_step(%s, 'lost', %s)", (saga, note("lost")))
            with pytest.raises(psycopg.errors.CheckViolation):
                connection.execute("UPDATE account SET balance = -1 WHERE id = 2").fetchall()
        with pytest.raises(psycopg.errors.DivisionByZero), psycopg.ClientCursor(connection) as cursor:
            cursor.execute(f"SELECT pgmosaic.saga_step('{saga}', 'lost', 'SELECT 1'); SELECT 1/0")
        assert connection.execute("SELECT state, steps FROM pgmosaic.sagas").fetchall() == [("running", ["kept"])]
    ended(router)
    assert router.endpoint.run("SELECT step FROM undone") == [("kept",)]


def test_a_client_that_vanishes(router):
    connection = router.endpoint.connect()
    saga = begin(connection)
    debit(connection, saga, 1, 25)
    credit(connection, saga, 2, 25)
    connection.execute("BEGIN")
    connection.execute("SELECT pgmosaic.saga_finish(%s)", (saga,))  # not committed
    os.close(connection.fileno())
    wait_until(lambda: left(router) == 0 and balance(router, 1) == START, "the refund")
    assert balance(router, 2) == START and records(router) == []


def test_its_time_is_over(router):
    with router.endpoint.connect() as connection:
        saga = begin(connection, timeout="1 second")
        debit(connection, saga, 1, 25)
        connection.execute("BEGIN")
        connection.execute("UPDATE account SET balance = balance + 25 WHERE id = 2")
        connection.execute("SELECT pgmosaic.saga_step(%s, 'credit', %s, 25, 2)", (saga, TAKE_BACK))
        ended(router)
        with pytest.raises(psycopg.Error) as late:
            connection.execute("COMMIT")
        assert late.value.sqlstate == "55000"
    assert (balance(router, 1), balance(router, 2)) == (START, START)


def test_the_router_is_killed(servers, make_router):
    """It logs in as the owner again, who does not come back."""
    for server in servers:
        server.endpoint.run(f"CREATE ROLE clerk LOGIN PASSWORD '{scram_verifier('of the bank')}'")
    router = tables(make_router(servers))
    router.endpoint.run("GRANT SELECT, UPDATE ON account TO clerk", "GRANT INSERT ON undone TO clerk")
    clerk = router.endpoint.change(user="clerk", password="of the bank")
    connection = clerk.connect()
    saga = begin(connection)
    debit(connection, saga, 1, 25)
    connection.execute("SELECT pgmosaic.saga_step(%s, 'who', $$INSERT INTO undone VALUES (current_user, session_user)$$)", (saga,))
    router.kill()
    router.start()
    ended(router)
    assert balance(router, 1) == START
    assert router.endpoint.run("SELECT * FROM undone") == [("clerk", "clerk")]
    keys = servers[0].endpoint.run("SELECT count(*) FROM pg_catalog.pgmosaic_sagas")
    assert keys == [(0,)] and records(router) == []


def test_killed_while_it_compensates(router):
    """Each step blocks until its lock is let go: the router dies between two, and within one."""
    connection = router.endpoint.connect()
    saga = begin(connection)
    for account in (1, 2, 3, 4):
        debit(connection, saga, account, account)
    blocker = router.servers[0].endpoint.connect()
    local = router.endpoint.connect()
    local.execute("BEGIN")
    local.execute("UPDATE account SET balance = balance WHERE id = 2")
    connection.close()
    wait_until(lambda: router.endpoint.run("SELECT steps FROM pgmosaic.sagas") == [(["debit", "debit"],)], "two compensations")
    assert total(router) == ACCOUNTS * START - 3
    router.kill()
    local.close()
    blocker.close()
    router.start()
    ended(router)
    assert router.endpoint.run("SELECT id, balance FROM account WHERE id <= 4 ORDER BY id") == [(n, START) for n in (1, 2, 3, 4)]


def test_a_group_is_killed(router):
    connection = router.endpoint.connect()
    saga = begin(connection)
    for account in range(1, 7):
        debit(connection, saga, account, 10)
    kill_at_once(router.servers[2])
    connection.close()
    wait_until(lambda: router.endpoint.run("SELECT state FROM pgmosaic.sagas") == [("failed",)], "a first attempt")
    assert router.endpoint.run("SELECT last_error, steps FROM pgmosaic.sagas")[0][1] is None  # nobody knows them all
    router.servers[2].start()
    ended(router)
    assert total(router) == ACCOUNTS * START


def test_one_that_fails_is_tried_again(router):
    router.endpoint.run("CREATE FUNCTION grumble() RETURNS trigger LANGUAGE plpgsql AS "
                        "$$ BEGIN IF EXISTS (SELECT FROM trouble) THEN RAISE 'not now'; END IF; RETURN NEW; END $$",
                        "CREATE TRIGGER grumble BEFORE INSERT ON undone FOR EACH ROW EXECUTE FUNCTION grumble()",
                        "INSERT INTO trouble VALUES ('any')")
    with router.endpoint.connect() as connection:
        saga = begin(connection)
        connection.execute("SELECT pgmosaic.saga_step(%s, 'note', %s)", (saga, note("note")))
        debit(connection, saga, 1, 1)
        with pytest.raises(psycopg.errors.RaiseException, match='compensation of step "note": not now'):
            connection.execute("SELECT pgmosaic.saga_compensate(%s)", (saga,))
        assert balance(router, 1) == START  # that is done, and not again
        shown = connection.execute("SELECT state, steps, last_error FROM pgmosaic.sagas").fetchall()
        assert shown == [("failed", ["note"], 'compensation of step "note": not now')]
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            connection.execute("SELECT pgmosaic.saga_step(%s, 'more', 'SELECT 1')", (saga,))
        connection.execute("DELETE FROM trouble")
        connection.execute("SELECT pgmosaic.saga_compensate(%s)", (saga,))
    ended(router)
    assert balance(router, 1) == START and router.endpoint.run("SELECT count(*) FROM undone") == [(1,)]


def test_rights(router):
    router.endpoint.run("CREATE ROLE ann LOGIN NOINHERIT PASSWORD 'ann'", "CREATE ROLE bob LOGIN PASSWORD 'bob'", "CREATE ROLE purse",
                        "GRANT purse TO ann", "GRANT pg_write_all_data, pg_read_all_data TO bob",
                        "GRANT SELECT, UPDATE ON account TO purse", "GRANT INSERT ON undone TO purse, ann",
                        "CREATE SCHEMA theirs AUTHORIZATION ann", "GRANT USAGE ON SCHEMA theirs TO purse",
                        "CREATE TABLE secrets (v int)")
    ann = router.endpoint.change(user="ann", password="ann").connect()
    bob = router.endpoint.change(user="bob", password="bob").connect()
    saga = begin(ann)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        debit(ann, saga, 1, 10)
    ann.execute("SET ROLE purse")
    ann.execute("SET search_path = theirs, public")
    debit(ann, saga, 1, 10)
    who = "INSERT INTO undone VALUES (current_user || session_user, current_schemas(false)::text)"
    ann.execute("SELECT pgmosaic.saga_step(%s, 'who', %s)", (saga, who))
    ann.execute("RESET ROLE")
    # Whatever a compensation does, it is Ann who does it.
    for escape in ("SELECT set_config('role', 'none', false)", "SELECT set_config('session_authorization', 'postgres', false)",
                   "DO $$ BEGIN RESET SESSION AUTHORIZATION; RESET ROLE; EXECUTE 'INSERT INTO public.secrets VALUES (1)'; END $$"):
        ann.execute("SELECT pgmosaic.saga_step(%s, 'escape', %s)", (saga, escape))
    for sql in ("SELECT pgmosaic.saga_step(%s, 'mine', 'SELECT 1')", "SELECT pgmosaic.saga_finish(%s)",
                "SELECT pgmosaic.saga_compensate(%s)"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            bob.execute(sql, (saga,))
    assert bob.execute("SELECT * FROM pgmosaic.sagas").fetchall() == []
    assert ann.execute("SELECT usename, state FROM pgmosaic.sagas").fetchall() == [("ann", "running")]
    for server in router.servers:
        with server.endpoint.change(user="bob", password="bob").connect() if server is router.servers[0] else router.endpoint.change(
                user="bob", password="bob").connect() as direct:
            assert direct.execute("SELECT count(*) FROM pg_catalog.pgmosaic_saga_steps").fetchone() == (0,)
            for forged in ("INSERT INTO pg_catalog.pgmosaic_saga_steps (saga, n) VALUES ('x', 1)",
                           "SELECT pg_catalog.pgmosaic_saga_note('00', 'x')", "SELECT pg_catalog.pgmosaic_saga_close('x')"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    direct.execute(forged)
    ann.close()
    wait_until(lambda: router.endpoint.run("SELECT state FROM pgmosaic.sagas") == [("failed",)], "the escape to fail")
    shown, = router.endpoint.run("SELECT steps, last_error FROM pgmosaic.sagas")
    assert shown[0][-1] == "escape" and "permission denied" in shown[1]
    assert router.endpoint.run("SELECT count(*) FROM secrets") == [(0,)]
    router.endpoint.run("GRANT INSERT ON secrets TO ann")
    wait_until(lambda: "session_authorization" in router.endpoint.run("SELECT coalesce(last_error, '') FROM pgmosaic.sagas")[0][0] or
               "session authorization" in router.endpoint.run("SELECT coalesce(last_error, '') FROM pgmosaic.sagas")[0][0],
               "the next escape to fail", 60)
    assert router.endpoint.run("SELECT count(*) FROM secrets") == [(1,)]
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        router.endpoint.run(f"SELECT pgmosaic.saga_finish('{saga}')")
    router.endpoint.run("ALTER ROLE ann SUPERUSER")
    router.endpoint.run(f"SELECT pgmosaic.saga_compensate('{saga}')")
    assert router.endpoint.run("SELECT * FROM undone") == [("purseann", "{theirs,public}")]
    assert balance(router, 1) == START and records(router) == []
    bob.close()


@pytest.mark.parametrize("path", ["", "tenant-1, public", "user, public", 'default', "a;b", "odd \"name"])
def test_the_search_path_is_that_of_the_step(router, path):
    with router.endpoint.connect() as connection:
        saga = begin(connection)
        connection.execute("SELECT set_config('search_path', %s, false)", ('"' + path.replace('"', '""') + '"' if path else "",))
        record = "INSERT INTO public.undone VALUES ('x', current_setting('search_path'))"
        wanted = connection.execute("SELECT current_setting('search_path')").fetchone()
        connection.execute("SELECT pgmosaic.saga_step(%s, 'where', %s)", (saga, record))
    ended(router)
    assert router.endpoint.run("SELECT step FROM undone") == [wanted]


def test_values_are_read_as_they_were_written(router):
    with router.endpoint.connect() as connection:
        saga = begin(connection)
        connection.execute("SET DateStyle = 'SQL, DMY'")
        connection.execute("SELECT pgmosaic.saga_step(%s, 'when', 'INSERT INTO undone SELECT ''x'', to_char($1::date, ''YYYY-MM-DD'')', "
                           "DATE '2026-04-03')", (saga,))
    ended(router)
    assert router.endpoint.run("SELECT step FROM undone") == [("2026-04-03",)]


def test_one_that_takes_for_ever_or_tells_too_much(router):
    """Rows of a compensation are nobody's, and it gets no more time than others can wait."""
    with router.endpoint.connect() as connection:
        saga = begin(connection)
        connection.execute("SELECT pgmosaic.saga_step(%s, 'limit', %s)",
                           (saga, "INSERT INTO undone SELECT 'x', current_setting('statement_timeout')"))
        connection.execute("SELECT pgmosaic.saga_step(%s, 'rows', 'SELECT repeat(''x'', 1000) FROM generate_series(1, 100000)')", (saga,))
    ended(router)
    assert router.endpoint.run("SELECT step FROM undone") == [("1min",)]


def test_one_that_cannot_be_compensated(router):
    router.endpoint.run("CREATE ROLE leaver LOGIN PASSWORD 'x'")
    leaver = router.endpoint.change(user="leaver", password="x").connect()
    saga = begin(leaver)
    leaver.execute("SELECT pgmosaic.saga_step(%s, 'x', 'TABLE account')", (saga,))
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        router.endpoint.run(f"SELECT pgmosaic.saga_forget('{saga}')")
    leaver.close()
    wait_until(lambda: router.endpoint.run("SELECT state FROM pgmosaic.sagas") == [("failed",)], "an attempt without the right")
    router.endpoint.run("DROP ROLE leaver", "CREATE ROLE leaver LOGIN PASSWORD 'x'")
    assert router.endpoint.change(user="leaver", password="x").run("SELECT * FROM pgmosaic.sagas") == []
    with pytest.raises(psycopg.errors.UndefinedObject, match="the role that began the saga was dropped"):
        router.endpoint.run(f"SELECT pgmosaic.saga_compensate('{saga}')")
    assert router.endpoint.run("SELECT usename, state FROM pgmosaic.sagas") == [(None, "failed")]
    assert router.endpoint.run(f"SELECT pgmosaic.saga_forget('{saga}')") == [("forgotten",)]
    assert left(router) == 0 and records(router) == []


def test_a_password_that_has_changed(servers, make_router):
    for server in servers:
        server.endpoint.run(f"CREATE ROLE clerk LOGIN PASSWORD '{scram_verifier('old')}'")
    router = tables(make_router(servers))
    clerk = router.endpoint.change(user="clerk", password="old").connect()
    saga = begin(clerk)
    clerk.execute("SELECT pgmosaic.saga_step(%s, 'x', 'SELECT 1')", (saga,))
    router.kill()
    for server in servers:
        server.endpoint.run(f"ALTER ROLE clerk PASSWORD '{scram_verifier('new')}'")
    router.start()
    wait_until(lambda: router.endpoint.run("SELECT state, last_error ~ 'password authentication failed' FROM pgmosaic.sagas") == [
        ("failed", True)], "an attempt with the old one")
    router.endpoint.change(user="clerk", password="new").run("SELECT 1")
    ended(router)


def test_refusals(router):
    with router.endpoint.connect() as connection:
        saga = begin(connection)

        def refused(sqlstate, sql, *values):
            with pytest.raises(psycopg.Error) as error:
                connection.execute(sql, values)
            assert error.value.sqlstate == sqlstate, (sql, error.value)
            return error.value

        syntax = refused("42601", "SELECT pgmosaic.saga_step(%s, 'x', 'UPDATE account SET balance')", saga)
        assert syntax.diag.internal_position == "27" and syntax.diag.internal_query == "UPDATE account SET balance"
        refused("42P01", "SELECT pgmosaic.saga_step(%s, 'x', 'DELETE FROM nothing')", saga)
        refused("42P18", "SELECT pgmosaic.saga_step(%s, 'x', %s, 1)", saga, REFUND)
        refused("0A000", "SELECT pgmosaic.saga_step(%s, 'x', 'COMMIT')", saga)
        refused("0A000", "SELECT pgmosaic.saga_step(%s, 'x', 'CREATE TABLE t (a int)')", saga)
        refused("42601", "SELECT pgmosaic.saga_step(%s, 'x', 'SELECT 1; SELECT 2')", saga)
        refused("42601", "SELECT pgmosaic.saga_step(%s, 'x', '')", saga)
        refused("0A000", "SELECT pgmosaic.saga_step(%s, 'x', 'SELECT sum(balance) FROM account a JOIN account b USING (balance)')", saga)
        refused("22004", "SELECT pgmosaic.saga_step(%s, 'x', NULL)", saga)
        refused("42704", "SELECT pgmosaic.saga_step('none', 'x', 'SELECT 1')")
        refused("42704", "SELECT pgmosaic.saga_finish('none')")
        refused("42704", "SELECT pgmosaic.saga_compensate('none')")
        refused("22023", "SELECT pgmosaic.saga_begin('x', '-1 hour')")
        refused("22007", "SELECT pgmosaic.saga_begin('x', 'soon')")
        assert "pgmosaic.saga_begin(" in str(refused("42883", "SELECT pgmosaic.saga_begin()"))
        refused("0A000", "SELECT pgmosaic.saga_begin('x'), 1")
        refused("0A000", "INSERT INTO undone SELECT pgmosaic.saga_begin('x')")
        refused("0A000", "SELECT pgmosaic.saga_begin((SELECT kind FROM trouble))")
        refused("42501", "DELETE FROM pgmosaic.sagas")
        connection.execute("CREATE ROLE someone")
        connection.execute("SET SESSION AUTHORIZATION someone")
        refused("0A000", "SELECT pgmosaic.saga_begin('x')")
        connection.execute("RESET SESSION AUTHORIZATION")
        connection.execute("BEGIN READ ONLY")
        refused("25006", "SELECT pgmosaic.saga_step(%s, 'x', 'SELECT 1')", saga)
        connection.execute("ROLLBACK")
        connection.execute("BEGIN")
        refused("25001", "SELECT pgmosaic.saga_compensate(%s)", saga)
        connection.execute("ROLLBACK")
        connection.execute("BEGIN")
        connection.execute("SELECT pgmosaic.saga_step(%s, 'x', 'SELECT 1')", (saga,))
        refused("0A000", "PREPARE TRANSACTION 'x'")
        connection.execute("BEGIN")
        connection.execute("SELECT pgmosaic.saga_finish(%s)", (saga,))
        refused("55000", "SELECT pgmosaic.saga_step(%s, 'x', 'SELECT 1')", saga)
        refused("25P02", "SELECT pgmosaic.saga_finish(%s)", saga)
        connection.execute("ROLLBACK")
        assert connection.execute("SELECT steps FROM pgmosaic.sagas").fetchall() == [([],)]
        connection.execute("SELECT pgmosaic.saga_begin(name => 'named', timeout => NULL)")
        connection.execute("SELECT pgmosaic.saga_step(%s, 'all', 'SELECT $1 || $2', VARIADIC ARRAY['a', %s]);", (saga, "b"))
        connection.execute("PREPARE p AS SELECT pgmosaic.saga_step($1, 'sql', 'SELECT 1') AS done")
        assert connection.execute(f"EXECUTE p ('{saga}')").fetchone() == ("sql",)
        for _ in range(7):  # psycopg prepares it on the way
            assert connection.execute("SELECT pgmosaic.saga_step(%s, %s, 'SELECT 1') AS done", (saga, "é")).fetchone() == ("é",)
        connection.execute("SET client_encoding = 'LATIN1'")
        connection.execute("SELECT pgmosaic.saga_step(%s, %s, %s)", (saga, "ä", note("ä")))
        connection.execute("SET client_encoding = 'UTF8'")
        steps = connection.execute("SELECT steps FROM pgmosaic.sagas WHERE saga_id = %s", (saga,)).fetchone()[0]
        assert steps == ["all", "sql"] + ["é"] * 7 + ["ä"]
        connection.execute("SELECT pgmosaic.saga_compensate(%s)", (saga,))
        assert connection.execute("SELECT step FROM undone").fetchall() == [("ä",)]


def test_dumps_and_databases(router):
    router.endpoint.run("CREATE DATABASE other")
    other = router.endpoint.change(database="other")
    connection = other.connect()
    saga = begin(connection)
    connection.execute("SELECT pgmosaic.saga_step(%s, 'x', 'SELECT pg_sleep(0)')", (saga,))
    assert left(router) == 0
    dump = subprocess.run([postgres_program("pg_dump")], env={**os.environ, **other.environment()}, check=True,
                          capture_output=True, text=True, timeout=60 * PATIENCE).stdout
    assert "saga" not in dump
    connection.close()
    router.endpoint.drop_database("other")
    router.endpoint.run("CREATE DATABASE other")
    assert other.run("SELECT * FROM pgmosaic.sagas") == []


def test_over_several_groups(router):
    """A step of a transaction over groups, one whose record is on another group than its work, and both taken back."""
    with router.endpoint.connect() as connection:
        before = two_phase(router)
        saga = begin(connection)
        with connection.transaction():
            connection.execute("UPDATE account SET balance = balance - 1")
            connection.execute("SELECT pgmosaic.saga_step(%s, 'all', 'UPDATE account SET balance = balance + 1')", (saga,))
        assert two_phase(router) == before + 1
        connection.execute("UPDATE account SET balance = balance - 7 WHERE id = 1")
        connection.execute("SELECT pgmosaic.saga_step(%s, 'beside', %s, 7, 1)", (saga, REFUND))
        assert two_phase(router) == before + 1
        connection.execute("SELECT pgmosaic.saga_compensate(%s)", (saga,))
        assert two_phase(router) == before + 3
        assert connection.execute("SELECT DISTINCT balance FROM account").fetchall() == [(START,)]
    assert records(router) == []


MOMENTS = {
    "a step's record": lambda text: "pgmosaic_saga_note" in text,
    "a compensation": lambda text: "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE" in text,
    "its end": lambda text: text.rstrip("\0") == "COMMIT",
    "the fence": lambda text: "pgmosaic_saga_close" in text,
}


def test_faults_while_it_compensates(servers, make_router):
    proxies = [FaultProxy(server).start() for server in servers]
    try:
        router = tables(make_router(proxies))
        account = servers[1].endpoint.run("SELECT min(id) FROM account")[0][0]
        actions = ("cut", "router", "server")
        cases = [(moment, when, action) for moment in MOMENTS for when in ("before", "after") for action in actions]
        for moment, when, action in cases[::2]:
            connection = router.endpoint.connect()
            saga = begin(connection)
            debit(connection, saga, account, 9)
            does = {"router": router.kill, "server": lambda: kill_at_once(servers[1])}.get(action, action)
            armed = proxies[1].arm(Fault(MOMENTS[moment], does, when))
            connection.close()
            assert armed.fired.wait(30 * PATIENCE), (moment, when, action)
            if action == "server":
                wait_until(lambda: not servers[1].running(), "the server to be gone")
                servers[1].start()
            if action == "router":
                wait_until(lambda: not router.running(), "the router to be gone")
                router.start()
            for proxy in proxies:
                proxy.restore()
            ended(router)
            assert balance(router, account) == START, (moment, when, action)
        router.stop()
    finally:
        for proxy in proxies:
            proxy.stop()


class Clients(Threads):
    """Transfers by sagas, until told to stop; some fail, some vanish, some are too late."""

    def __init__(self, endpoint, count=4):
        self.endpoint, self.over = endpoint, threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(seed,), daemon=True) for seed in range(count)]
        self.committed = 0

    def run(self, seed):
        chance = random.Random(seed)
        while not self.over.is_set():
            try:
                connection = self.endpoint.connect()
                for _ in range(chance.randint(1, 6)):
                    self.transfer(connection, chance)
                connection.close()
            except (psycopg.Error, OSError):
                self.over.wait(0.1)

    def transfer(self, connection, chance):
        source, target = chance.sample(range(1, ACCOUNTS + 1), 2)
        amount = chance.randint(1, 20)
        saga = begin(connection, timeout=chance.choice(["100 ms", "1 hour"]))
        debit(connection, saga, source, amount)
        end = chance.choice(["finish", "finish", "fail", "vanish"])
        if end == "vanish":
            os.close(connection.fileno())
            raise OSError("vanished")
        if end == "fail":
            connection.execute("SELECT pgmosaic.saga_compensate(%s)", (saga,))
            return
        with connection.transaction():
            connection.execute("UPDATE account SET balance = balance + %s WHERE id = %s", (amount, target))
            connection.execute("SELECT pgmosaic.saga_finish(%s)", (saga,))
        self.committed += 1


def test_no_money_is_lost(router):
    chance = random.Random(17)
    with Clients(router.endpoint) as clients:
        for _ in range(6):
            before = clients.committed
            wait_until(lambda: clients.committed > before + 3, "some transfers", 60)
            if chance.random() < 0.6:
                router.kill()
                router.start()
            else:
                server = chance.choice(router.servers[1:])
                kill_at_once(server)
                server.start()
    ended(router)
    assert total(router) == ACCOUNTS * START
    wait_until(lambda: records(router) == [], "all sagas to be forgotten")


def test_a_router_that_stops(router):
    connection = router.endpoint.connect()
    saga = begin(connection)
    debit(connection, saga, 1, 5)
    os.kill(router.pid, signal.SIGTERM)
    wait_until(lambda: not router.running(), "the router to stop")
    router.stop()
    router.start()
    ended(router)
    assert balance(router, 1) == START
