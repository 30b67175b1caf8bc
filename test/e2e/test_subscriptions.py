"""Subscriptions: the home applies what another PostgreSQL publishes, to local tables and to nothing else."""
import contextlib
import subprocess

import psycopg
import pytest

from harness.dialect import strip_dialect
from harness.fixtures import SELF_CHECK
from harness.pair import databases
from harness.processes import postgres_program, wait_until

NOT_ALONE = pytest.mark.skipif(SELF_CHECK, reason="of several groups")
TABLES = ("CREATE TABLE single (id int PRIMARY KEY, v text)", "CREATE TABLE many (id int PRIMARY KEY, v text) SHARD BY (id)",
          "CREATE TABLE country (id int PRIMARY KEY, v text) WITH (table_type = 'reference')")


def plain(statements):
    return [strip_dialect(sql) for sql in statements]


@pytest.fixture
def publisher(make_server):
    server = make_server("publisher")
    server.endpoint.run(*plain(TABLES), "INSERT INTO single VALUES (1, 'one'), (2, 'two')", "INSERT INTO many VALUES (1, 'one')",
                        "INSERT INTO country VALUES (1, 'one')", "CREATE PUBLICATION of_single FOR TABLE single",
                        "CREATE PUBLICATION of_many FOR TABLE many", "CREATE PUBLICATION of_country FOR TABLE country",
                        "CREATE PUBLICATION grows FOR TABLE single")
    return server.endpoint


@pytest.fixture
def subscriber(router):
    with databases("subscribes", router) as (made,):
        made.run(*(plain(TABLES) if SELF_CHECK else TABLES))
        yield made
        for name, in made.run("SELECT subname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid "
                              "WHERE datname = current_database()"):
            with contextlib.suppress(psycopg.Error):
                made.run(f"ALTER SUBSCRIPTION {name} DISABLE")
            made.run(f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE)", f"DROP SUBSCRIPTION {name}")


def create(name, publisher, publications, options=""):
    conninfo = publisher.conninfo().replace("'", "''")
    return f"CREATE SUBSCRIPTION {name} CONNECTION '{conninfo}' PUBLICATION {publications} {options}"


def slots(publisher):
    return [name for name, in publisher.run("SELECT slot_name FROM pg_replication_slots ORDER BY 1")]


def wait_for_rows(subscriber, rows, table="single"):
    wait_until(lambda: subscriber.run(f"SELECT id, v FROM {table} ORDER BY 1") == rows, f"{rows} in {table}")


def refused(subscriber, *statements):
    with pytest.raises(psycopg.errors.FeatureNotSupported) as caught:
        subscriber.run(*statements)
    return str(caught.value)


@pytest.mark.parametrize("options", ["", "WITH (copy_data = true)", "WITH (enabled)", "WITH (enabled = on, streaming)"])
def test_rows_arrive(publisher, subscriber, options):
    subscriber.run(create("s", publisher, "of_single", options))
    assert subscriber.run("SELECT subenabled, subslotname FROM pg_subscription WHERE subname = 's'") == [(True, "s")]
    wait_for_rows(subscriber, [(1, "one"), (2, "two")])
    publisher.run("INSERT INTO single VALUES (3, 'three')", "UPDATE single SET v = 'uno' WHERE id = 1",
                  "DELETE FROM single WHERE id = 2")
    wait_for_rows(subscriber, [(1, "uno"), (3, "three")])
    subscriber.run("ALTER SUBSCRIPTION s RENAME TO t", "COMMENT ON SUBSCRIPTION t IS 'x'",
                   "ALTER SUBSCRIPTION t OWNER TO CURRENT_USER", "ALTER SUBSCRIPTION t SET (synchronous_commit = local)")
    with pytest.raises(psycopg.errors.ActiveSqlTransaction):
        with subscriber.connect(autocommit=False) as connection:
            connection.execute("DROP SUBSCRIPTION t")
    subscriber.run("DROP SUBSCRIPTION t")
    wait_until(lambda: slots(publisher) == [], "the slot to go")


def test_not_in_a_transaction(publisher, subscriber):
    for block in (lambda sql: subscriber.run("BEGIN", sql), lambda sql: subscriber.run(f"SELECT 1; {sql}; SELECT 2")):
        with pytest.raises(psycopg.errors.ActiveSqlTransaction):
            block(create("s", publisher, "of_single"))
    assert slots(publisher) == []
    subscriber.run("BEGIN", create("s", publisher, "of_single", "WITH (create_slot = false, slot_name = kept)"), "ROLLBACK")
    assert subscriber.run("SELECT count(*) FROM pg_subscription WHERE subname = 's'") == [(0,)]
    publisher.run("SELECT pg_create_logical_replication_slot('kept', 'pgoutput')")
    subscriber.run("BEGIN", create("s", publisher, "of_single", "WITH (create_slot = false, slot_name = kept)"), "COMMIT")
    wait_for_rows(subscriber, [(1, "one"), (2, "two")])
    for change in ("REFRESH PUBLICATION", "SET PUBLICATION of_single"):
        with pytest.raises(psycopg.errors.ActiveSqlTransaction):
            subscriber.run("BEGIN", f"ALTER SUBSCRIPTION s {change}")
    subscriber.run("BEGIN", "ALTER SUBSCRIPTION s DISABLE", "ALTER SUBSCRIPTION s SET (slot_name = NONE)",
                   "DROP SUBSCRIPTION s", "COMMIT")


@NOT_ALONE
@pytest.mark.parametrize("table", ["many", "country"])
def test_create_leaves_nothing_behind(publisher, subscriber, table):
    said = refused(subscriber, create("s", publisher, f"of_single, of_{table}"))
    assert f'"public.{table}"' in said and "local table" in said
    assert slots(publisher) == [] and subscriber.run("SELECT count(*) FROM pg_subscription_rel") == [(0,)]
    publisher.run("SELECT pg_create_logical_replication_slot('kept', 'pgoutput')")
    for begin in ("SELECT 1", "BEGIN"):
        refused(subscriber, begin, create("s", publisher, f"of_{table}", "WITH (create_slot = false, slot_name = kept)"))
    refused(subscriber, create("s", publisher, f"of_{table}", "WITH (enabled = false)"))
    assert slots(publisher) == ["kept"] and subscriber.run("SELECT count(*) FROM pg_subscription_rel") == [(0,)]
    assert subscriber.run(f"SELECT count(*) FROM {table}") == [(0,)]


@NOT_ALONE
@pytest.mark.parametrize("table", ["many", "country"])
def test_tables_that_come_later(publisher, subscriber, table):
    subscriber.run(create("s", publisher, "of_single, grows"))
    wait_for_rows(subscriber, [(1, "one"), (2, "two")])
    publisher.run(f"ALTER PUBLICATION grows ADD TABLE {table}")
    for change in ("REFRESH PUBLICATION", f"ADD PUBLICATION of_{table}", f"SET PUBLICATION of_{table}, of_single",
                   "DROP PUBLICATION of_single", "REFRESH PUBLICATION WITH (copy_data = false)"):
        assert f'"public.{table}"' in refused(subscriber, f"ALTER SUBSCRIPTION s {change}")
    subscriber.run(f"ALTER SUBSCRIPTION s SET PUBLICATION of_{table} WITH (refresh = false)")
    refused(subscriber, "ALTER SUBSCRIPTION s REFRESH PUBLICATION")
    assert subscriber.run("SELECT srrelid::regclass::text FROM pg_subscription_rel") == [("single",)]
    assert subscriber.run("SELECT subenabled, subpublications FROM pg_subscription WHERE subname = 's'") == [(True, [f"of_{table}"])]
    subscriber.run("ALTER SUBSCRIPTION s SET PUBLICATION of_single", "ALTER SUBSCRIPTION s REFRESH PUBLICATION")
    publisher.run("INSERT INTO single VALUES (3, 'three')", f"INSERT INTO {table} VALUES (3, 'three')")
    wait_for_rows(subscriber, [(1, "one"), (2, "two"), (3, "three")])
    assert subscriber.run(f"SELECT count(*) FROM {table}") == [(0,)]


def test_more_local_tables(publisher, subscriber):
    publisher.run("CREATE TABLE other (id int PRIMARY KEY, v text)", "INSERT INTO other VALUES (7, 'seven')",
                  "CREATE PUBLICATION of_other FOR TABLE other")
    subscriber.run(create("s", publisher, "of_single"))
    with pytest.raises(psycopg.errors.UndefinedTable):
        subscriber.run("ALTER SUBSCRIPTION s ADD PUBLICATION of_other")
    subscriber.run("CREATE TABLE other (id int PRIMARY KEY, v text)", "ALTER SUBSCRIPTION s ADD PUBLICATION of_other")
    wait_for_rows(subscriber, [(7, "seven")], "other")
    subscriber.run("ALTER SUBSCRIPTION s DROP PUBLICATION of_other")
    assert subscriber.run("SELECT srrelid::regclass::text FROM pg_subscription_rel") == [("single",)]


@NOT_ALONE
def test_a_subscribed_table_stays_local(publisher, subscriber):
    subscriber.run("CREATE TABLE parts (id int PRIMARY KEY, v text) SHARD BY RANGE (id)",
                   create("s", publisher, "of_single"))
    wait_for_rows(subscriber, [(1, "one"), (2, "two")])
    said = refused(subscriber, "ALTER TABLE parts ATTACH PARTITION single FOR VALUES FROM (1) TO (10)")
    assert '"public.single"' in said
    assert subscriber.run("SELECT count(*) FROM parts") == [(0,)]
    wait_for_rows(subscriber, [(1, "one"), (2, "two")])
    subscriber.run("DROP SUBSCRIPTION s", "ALTER TABLE parts ATTACH PARTITION single FOR VALUES FROM (1) TO (10)")
    assert subscriber.run("SELECT count(*) FROM parts") == [(2,)]
    refused(subscriber, create("s", publisher, "of_single"))
    assert slots(publisher) == []


@NOT_ALONE
def test_triggers_that_cannot_be_read(publisher, subscriber):
    subscriber.run("CREATE FUNCTION notes() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'SELECT 1'; RETURN NEW; END $$",
                   "CREATE TRIGGER notes AFTER INSERT ON single FOR EACH ROW EXECUTE FUNCTION notes()",
                   create("s", publisher, "of_single"))
    assert "SQL given as text" in refused(subscriber, "ALTER TABLE single ENABLE ALWAYS TRIGGER notes")
    wait_for_rows(subscriber, [(1, "one"), (2, "two")])


def test_rights_are_a_superusers(publisher, subscriber):
    subscriber.run("CREATE ROLE watcher LOGIN PASSWORD 'secret'", create("s", publisher, "of_single"))
    try:
        user = subscriber.change(user="watcher", password="secret")
        for sql in (create("t", publisher, "of_single"), "ALTER SUBSCRIPTION s REFRESH PUBLICATION", "DROP SUBSCRIPTION s",
                    "ALTER SUBSCRIPTION s ADD PUBLICATION of_many", "ALTER SUBSCRIPTION s RENAME TO t",
                    "COMMENT ON SUBSCRIPTION s IS 'x'", "SELECT subconninfo FROM pg_subscription"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                user.run(sql)
        subscriber.run("ALTER ROLE watcher SUPERUSER", "ALTER SUBSCRIPTION s OWNER TO watcher", "ALTER ROLE watcher NOSUPERUSER")
        user.run("ALTER SUBSCRIPTION s REFRESH PUBLICATION")
        if not SELF_CHECK:
            publisher.run("ALTER PUBLICATION of_single ADD TABLE many")
            refused(user, "ALTER SUBSCRIPTION s REFRESH PUBLICATION")
    finally:
        subscriber.run("ALTER SUBSCRIPTION s OWNER TO postgres", "DROP SUBSCRIPTION s", "DROP ROLE watcher")


def test_dump(publisher, subscriber, router):
    subscriber.run(create("s", publisher, "of_single"), "COMMENT ON SUBSCRIPTION s IS 'of one table'")
    dump = subprocess.run([postgres_program("pg_dump"), "--schema-only", "-d", subscriber.url()], capture_output=True, text=True,
                          check=True).stdout
    lines = [line for line in dump.splitlines() if "SUBSCRIPTION s" in line]
    assert len(lines) >= 2 and "connect = false" in lines[0]
    with databases("restored", router) as (restored,):
        restored.run("CREATE TABLE single (id int PRIMARY KEY, v text)", lines[0])
        assert restored.run("SELECT subenabled FROM pg_subscription JOIN pg_database d ON d.oid = subdbid WHERE datname = "
                            "current_database()") == [(False,)]
        restored.run("ALTER SUBSCRIPTION s SET (slot_name = NONE)", "DROP SUBSCRIPTION s")


def test_a_publisher_that_is_gone(publisher, subscriber):
    with pytest.raises(psycopg.OperationalError):
        subscriber.run(create("s", publisher.change(port=1), "of_single"))
    with pytest.raises(psycopg.errors.SyntaxError):
        subscriber.run(create("s", publisher, "of_single", "WITH (nothing = 1)"))
    assert subscriber.run("SELECT count(*) FROM pg_subscription WHERE subname = 's'") == [(0,)]
