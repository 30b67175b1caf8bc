"""Transactions over several groups that a client has prepared: they outlive whoever dies, and end as the client says."""
import signal
import threading

import psycopg
import pytest

from harness import fsck
from harness.fixtures import SELF_CHECK
from harness.processes import wait_until

pytestmark = pytest.mark.skipif(SELF_CHECK, reason="about the router")

PREPARED = "SELECT count(*) FROM pg_prepared_xacts"
VALUES = "SELECT v, count(*) FROM t GROUP BY v ORDER BY v"


@pytest.fixture
def servers(make_server):
    return [make_server(name, {"synchronous_commit": "local"}) for name in ("g1", "g2", "g3")]


@pytest.fixture
def router(servers, make_router):
    router = make_router(servers)
    router.endpoint.run(
        "CREATE TABLE t (id int PRIMARY KEY, v text) SHARD BY (id)", "CREATE TABLE local (a int) WITH (table_type = 'local')",
        "INSERT INTO t SELECT i, 'old' FROM generate_series(1, 40) i")
    return router


def prepare(router, name, value):
    router.endpoint.run("BEGIN", f"UPDATE t SET v = '{value}'", f"INSERT INTO local VALUES (length('{value}'))",
                        f"PREPARE TRANSACTION '{name}'")


def left(servers):
    return [server.endpoint.run(PREPARED)[0][0] for server in servers]


def values(router):
    return dict(router.endpoint.run(VALUES))


def settled(servers):
    wait_until(lambda: left(servers) == [0, 0, 0], "all groups to know")


@pytest.mark.parametrize("decision, value", [("COMMIT", "new"), ("ROLLBACK", "old")])
def test_it_outlives_router_and_servers(servers, router, decision, value):
    prepare(router, "x", "new")
    assert left(servers)[1:] == [1, 1]
    router.kill()
    for server in servers:
        server.stop(signal.SIGQUIT)
        server.start()
    router.start()
    assert router.endpoint.run("SELECT gid FROM pg_prepared_xacts") == [("x",)]
    assert values(router) == {"old": 40} and left(servers)[1:] == [1, 1]
    with pytest.raises(psycopg.errors.LockNotAvailable), router.endpoint.connect() as connection:
        connection.execute("SET lock_timeout = '100ms'")
        connection.execute("UPDATE t SET v = 'other' WHERE id = 5")
    router.endpoint.run(f"{decision} PREPARED 'x'")
    assert left(servers) == [0, 0, 0] and values(router) == {value: 40}
    assert router.endpoint.run("SELECT count(*) FROM local") == [(value == "new",)]
    router.endpoint.run("UPDATE t SET v = 'free'")
    assert fsck.differences(router.endpoint) == []
    router.stop()
    router.start()
    assert values(router) == {"free": 40}


@pytest.mark.parametrize("decision, value", [("COMMIT", "new"), ("ROLLBACK", "old")])
def test_a_group_that_is_down_follows(servers, router, decision, value):
    prepare(router, "x", "new")
    servers[1].stop(signal.SIGQUIT)
    router.endpoint.run(f"{decision} PREPARED 'x'")
    assert router.endpoint.run(PREPARED) == [(0,)]
    prepared_again = "BEGIN", "INSERT INTO local VALUES (1)", "PREPARE TRANSACTION 'x'"  # the name is free
    router.endpoint.run(*prepared_again)
    servers[1].start()
    wait_until(lambda: left(servers) == [1, 0, 0], "the group to know")
    assert values(router) == {value: 40}
    router.endpoint.run("COMMIT PREPARED 'x'")


def test_a_router_dies_behind_the_decision(servers, router):
    """The home has committed and does not say so."""
    home = servers[0]
    prepare(router, "x", "new")
    home.endpoint.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "ALTER SYSTEM SET synchronous_commit = 'on'",
                      "SELECT pg_reload_conf()")

    def commit():
        with pytest.raises(psycopg.OperationalError):
            router.endpoint.run("COMMIT PREPARED 'x'")

    client = threading.Thread(target=commit)
    client.start()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'COMMIT PREPARED%'"
    wait_until(lambda: home.endpoint.run(waiting) == [(1,)], "the home to have committed")
    router.kill()
    client.join()
    assert left(servers)[1:] == [1, 1]
    home.endpoint.run("ALTER SYSTEM RESET synchronous_standby_names", "ALTER SYSTEM RESET synchronous_commit",
                      "SELECT pg_reload_conf()")
    router.start()
    settled(servers)
    assert values(router) == {"new": 40}


@pytest.mark.parametrize("decision, value", [("COMMIT", "new"), ("ROLLBACK", "old")])
def test_the_homes_word_counts(servers, router, decision, value):
    """Somebody tells the home's server itself."""
    prepare(router, "x", "new")
    servers[0].endpoint.run(f"{decision} PREPARED 'x'")
    router.kill()
    router.start()
    settled(servers)
    assert values(router) == {value: 40}


@pytest.mark.parametrize("home_dies", [True, False])
def test_a_router_dies_while_it_prepares(servers, router, home_dies):
    """The other groups have prepared, the home waits for a lock: it goes on when it gets that, or dies as well."""
    router.endpoint.run(
        "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_advisory_xact_lock(17); RETURN NULL; END $$",
        "CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON local DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
        "EXECUTE FUNCTION waits()")

    def try_it():
        with pytest.raises(psycopg.OperationalError):
            prepare(router, "x", "new")

    holder = servers[0].endpoint.connect()
    holder.execute("SELECT pg_advisory_lock(17)")
    client = threading.Thread(target=try_it)
    client.start()
    wait_until(lambda: left(servers)[1:] == [1, 1], "the groups to have prepared")
    router.kill()
    client.join()
    if home_dies:
        servers[0].stop(signal.SIGQUIT)
        servers[0].start()
    else:
        router.start()  # beside it
        assert router.endpoint.run(PREPARED) == [(0,)] and left(servers)[1:] == [1, 1]
        holder.close()
        wait_until(lambda: router.endpoint.run(PREPARED) == [(1,)], "the home to have prepared")
        router.endpoint.run("ROLLBACK PREPARED 'x'")
    if home_dies:
        router.start()
    settled(servers)
    assert values(router) == {"old": 40}
    router.endpoint.run("UPDATE t SET v = 'free'")
    prepare(router, "x", "new")
    router.endpoint.run("COMMIT PREPARED 'x'")
    assert values(router) == {"new": 40}


def test_no_slot_is_left_on_one_group(make_server, make_router):
    servers = [make_server("g1"), make_server("g2", {"max_prepared_transactions": 20})]
    router = make_router(servers)
    router.endpoint.run("CREATE TABLE t (id int PRIMARY KEY, v text) SHARD BY (id)",
                        "INSERT INTO t SELECT i, 'old' FROM generate_series(1, 40) i")

    def prepare_one(number):
        router.endpoint.run("BEGIN", f"UPDATE t SET v = 'p{number}' WHERE id % 10 = {number}",
                            f"PREPARE TRANSACTION 'p{number}'")

    servers[1].endpoint.run("CREATE TABLE filler (a int)")
    for number in range(16):
        servers[1].endpoint.run("BEGIN", "INSERT INTO filler VALUES (1)", f"PREPARE TRANSACTION 'filler {number}'")
    for number in range(4):
        prepare_one(number)
    before = [server.endpoint.run(PREPARED) for server in servers]
    with pytest.raises(psycopg.errors.OutOfMemory, match="maximum number of prepared transactions reached"):
        prepare_one(4)
    assert [server.endpoint.run(PREPARED) for server in servers] == before
    assert router.endpoint.run(PREPARED) == [(4,)]
    router.endpoint.run(*[f"COMMIT PREPARED 'p{number}'" for number in range(4)])
    prepare_one(4)
    router.endpoint.run("COMMIT PREPARED 'p4'")
    assert values(router) == {"old": 20, **{f"p{number}": 4 for number in range(5)}}


def test_a_schema_change_outlives_the_router(servers, router):
    router.endpoint.run("BEGIN", "CREATE TABLE made (id int PRIMARY KEY, v text) SHARD BY (id)",
                        "CREATE TABLE reference (id int) WITH (table_type = 'reference')",
                        "INSERT INTO made SELECT i, 'made' FROM generate_series(1, 40) i",
                        "INSERT INTO reference VALUES (1)", "ALTER TABLE t ADD COLUMN n int DEFAULT 3",
                        "PREPARE TRANSACTION 'schema'")
    router.kill()
    router.start()
    router.endpoint.run("CREATE TABLE beside (id int PRIMARY KEY) SHARD BY (id)",
                        "INSERT INTO beside SELECT generate_series(1, 40)")
    with pytest.raises(psycopg.errors.UndefinedTable):
        router.endpoint.run("SELECT * FROM made")
    over, answers = threading.Event(), set()

    def write():
        with router.endpoint.connect() as connection:
            number = 1000
            while not over.is_set():
                number += 1
                try:
                    connection.execute(f"INSERT INTO made VALUES ({number}, 'beside')")
                    answers.add("done")
                except psycopg.errors.UndefinedTable:
                    answers.add("not there")

    client = threading.Thread(target=write)
    client.start()
    wait_until(lambda: answers == {"not there"}, "a first answer")
    router.endpoint.run("COMMIT PREPARED 'schema'")
    assert router.endpoint.run("SELECT count(*) FROM made WHERE v = 'made'") == [(40,)]
    wait_until(lambda: "done" in answers, "rows to be written")
    over.set()
    client.join()
    assert router.endpoint.run("SELECT sum(n) FROM t") == [(120,)]
    assert router.endpoint.run("SELECT count(*) FROM made JOIN beside USING (id)") == [(40,)]
    assert servers[0].endpoint.run("SELECT count(*) FROM made") == [(0,)]  # the home has only the name
    assert fsck.differences(router.endpoint) == []
    router.kill()
    router.start()
    assert router.endpoint.run("SELECT count(*) FROM made WHERE v = 'made'") == [(40,)]
    assert router.endpoint.run("SELECT count(*) FROM reference") == [(1,)]
    assert fsck.differences(router.endpoint) == []


def test_a_schema_change_whose_router_dies_behind_the_decision(servers, router):
    home = servers[0]
    router.endpoint.run("BEGIN", "CREATE TABLE made (id int PRIMARY KEY, v text) SHARD BY (id)",
                        "INSERT INTO made SELECT i, 'made' FROM generate_series(1, 40) i", "PREPARE TRANSACTION 'schema'")
    router.kill()
    home.endpoint.run("COMMIT PREPARED 'schema'")
    router.start()
    settled(servers)
    assert router.endpoint.run("SELECT count(*) FROM made") == [(40,)]
    router.endpoint.run("INSERT INTO made SELECT i, 'more' FROM generate_series(41, 80) i", "DROP TABLE made")
    assert fsck.differences(router.endpoint) == []


def test_readers_see_all_of_it_or_nothing(router):
    """Also of one that another router had prepared."""
    endpoint = router.endpoint
    endpoint.run("UPDATE t SET v = '0'")
    prepare(router, "kept", "0")
    endpoint.run("COMMIT PREPARED 'kept'")
    over, torn, reads = threading.Event(), [], []

    def read():
        with endpoint.connect() as connection:
            while not over.is_set():
                seen = connection.execute(VALUES).fetchall()
                reads.append(seen)
                if len(seen) > 1:
                    torn.append(seen)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for number in range(1, 4):
        prepare(router, "x", str(number))
        if number == 1:
            router.kill()
            router.start()
            for reader in readers:
                reader.start()
        wanted = len(reads) + 20
        wait_until(lambda: len(reads) > wanted, "reads")
        endpoint.run("COMMIT PREPARED 'x'")
    for number in range(30):
        prepare(router, "x", f"again {number}")
        endpoint.run("COMMIT PREPARED 'x'")
    over.set()
    for reader in readers:
        reader.join()
    assert torn == []


def test_ends_of_others_are_not_held_up(router):
    """The rows of the commit log go while a transaction stays prepared."""
    router.endpoint.run("CREATE TABLE other (id int PRIMARY KEY, v int) SHARD BY (id)",
                        "INSERT INTO other SELECT i, 0 FROM generate_series(1, 40) i")
    prepare(router, "x", "new")
    rows = "SELECT count(*) FROM pg_catalog.pgmosaic_commit_log"
    for number in range(3):
        for _ in range(5):
            router.endpoint.run(f"UPDATE other SET v = {number}")
        wait_until(lambda: router.servers[0].endpoint.run(rows)[0][0] <= 6, "the rows to go")
    router.endpoint.run("COMMIT PREPARED 'x'")
    assert values(router) == {"new": 40}
    wait_until(lambda: router.servers[0].endpoint.run(rows) == [(0,)], "all rows to go")
