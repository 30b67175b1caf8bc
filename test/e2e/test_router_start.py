"""What a router finds when it starts: transactions of the one before it, locks of others."""
import signal
import subprocess
import threading

import psycopg
import pytest

from harness.fixtures import SELF_CHECK
from harness.processes import PATIENCE, wait_until

pytestmark = pytest.mark.skipif(SELF_CHECK, reason="about the router")


def waiting(server, event_type):
    question = f"SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' OR wait_event = '{event_type}'"
    return server.endpoint.run(question) != [(0,)]


@pytest.fixture
def servers(make_server):
    return [make_server(name, {"synchronous_commit": "local"}) for name in ("g1", "g2")]


def test_prepared_transactions_of_a_killed_router(servers, make_router):
    """The home has committed and does not say so; the other groups have prepared, and hold rows of the commit logs."""
    home, other = servers
    router = make_router(servers)
    router.endpoint.run(
        "CREATE TABLE t (id int PRIMARY KEY) SHARD BY (id)", "CREATE TABLE waits (id int) WITH (table_type = 'local')",
        "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM set_config('synchronous_commit', 'on', true); RETURN NEW; END $$",
        "CREATE TRIGGER waits BEFORE INSERT ON waits FOR EACH ROW EXECUTE FUNCTION waits()")
    home.endpoint.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")

    def commit():
        with router.endpoint.connect(autocommit=True) as connection, pytest.raises(psycopg.OperationalError):
            connection.execute("BEGIN")
            connection.execute("INSERT INTO waits VALUES (1)")
            connection.execute("NOTIFY waits")  # the home is the anchor
            connection.execute("INSERT INTO t SELECT generate_series(1, 40)")
            connection.execute("COMMIT")

    client = threading.Thread(target=commit)
    client.start()
    wait_until(lambda: waiting(home, "SyncRep"), "the home to have committed")
    router.kill()
    client.join()
    prepared = "SELECT count(*) FROM pg_prepared_xacts"
    assert other.endpoint.run(prepared) == [(1,)]
    home.endpoint.run("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
    router.start()
    assert router.endpoint.run("SELECT count(*) FROM t") == [(40,)]
    assert [server.endpoint.run(prepared) for server in servers] == [[(0,)], [(0,)]]


@pytest.mark.parametrize("end", ["PREPARE TRANSACTION 'late'", "COMMIT"])
def test_a_group_that_is_still_preparing(servers, make_router, end):
    """The router is killed and starts again before a group has come to its PREPARE: nothing stays prepared."""
    router = make_router(servers)
    router.endpoint.run(
        "CREATE TABLE t (id int PRIMARY KEY) SHARD BY (id)",
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(4); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.id = 1) "
        "EXECUTE FUNCTION slow()")

    def finish():
        with router.endpoint.connect(autocommit=True) as connection, pytest.raises(psycopg.OperationalError):
            connection.execute("BEGIN")
            connection.execute("INSERT INTO t SELECT generate_series(1, 40)")
            connection.execute(end)

    client = threading.Thread(target=finish)
    client.start()
    sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    wait_until(lambda: any(server.endpoint.run(sleeps) != [(0,)] for server in servers), "a group to be about it")
    router.kill()
    client.join()
    router.start()
    wait_until(lambda: all(server.endpoint.run(sleeps) == [(0,)] for server in servers), "the group to be done")
    prepared = "SELECT count(*) FROM pg_prepared_xacts"
    wait_until(lambda: all(server.endpoint.run(prepared) == [(0,)] for server in servers), "nothing to be prepared")
    # The slow group may have been the one whose COMMIT decides.
    outcomes = [[(0,)], [(40,)]] if end == "COMMIT" else [[(0,)]]
    assert router.endpoint.run("SELECT count(*) FROM t") in outcomes


def test_a_router_that_still_starts_can_be_stopped(servers, make_router):
    home = servers[0]
    router = make_router(servers)
    router.stop()
    with home.endpoint.connect(autocommit=False) as holder:
        holder.execute("LOCK TABLE pg_catalog.pgmosaic_epochs")
        router.spawn(router.process.args)
        wait_until(lambda: router.require_running() and waiting(home, "none"), "the router to wait for the lock")
        router.process.send_signal(signal.SIGTERM)
        try:
            assert router.process.wait(timeout=20 * PATIENCE) == 0
        except subprocess.TimeoutExpired:
            pytest.fail("the router goes on")
    router.start()
    assert router.endpoint.run("SELECT 1") == [(1,)]
