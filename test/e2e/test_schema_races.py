"""Schema changes beside statements of others: what a single PostgreSQL keeps apart by its locks must stay apart here."""
import threading

import psycopg
import pytest

from harness.fixtures import SELF_CHECK
from harness.pair import databases
from harness.processes import PATIENCE, wait_until
from harness import fsck
from harness.schemas import group_endpoints, misplaced_rows
from harness.soak_chaos import kill_at_once
from harness.soak_round import Round

KINDS = {"local": "", "sharded": " SHARD BY (id) WITH (shard_count = 8)", "reference": " WITH (table_type = 'reference')"}
pytestmark = pytest.mark.skipif(SELF_CHECK, reason="about several servers")


@pytest.fixture
def endpoint(router):
    with databases("races", router) as [made]:
        yield made


@pytest.fixture
def servers(endpoint):
    return list(group_endpoints(endpoint).values())


def somebody_waits(servers):
    return any(server.run("SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE NOT granted "
                          f"AND datname = '{server.database}'") != [(0,)] for server in servers)


@pytest.mark.parametrize("new", KINDS)
@pytest.mark.parametrize("old", KINDS)
def test_a_table_does_not_become_one_of_another_kind_at_once(endpoint, old, new):
    if old == new:
        return
    endpoint.run(f"CREATE TABLE t (id int PRIMARY KEY){KINDS[old]}", "INSERT INTO t VALUES (5)")
    endpoint.run(f"CREATE TABLE u (id int PRIMARY KEY){KINDS[new]}")
    for statements in (["DROP TABLE t", f"CREATE TABLE t (id int PRIMARY KEY){KINDS[new]}"],
                       ["ALTER TABLE t RENAME TO old", "ALTER TABLE u RENAME TO t"]):
        with endpoint.connect() as changer:
            changer.execute("BEGIN")
            changer.execute(statements[0])
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="another kind"):
                changer.execute(statements[1])
            changer.execute("ROLLBACK")
    assert endpoint.run("SELECT id FROM t") == [(5,)]
    endpoint.run("ALTER TABLE t RENAME TO old", "ALTER TABLE u RENAME TO t")  # one by one
    assert endpoint.run("SELECT id FROM t") == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_statement_that_waited_while_its_table_was_replaced(endpoint, servers, kind):
    old = new = kind
    endpoint.run(f"CREATE TABLE t (id int PRIMARY KEY){KINDS[old]}", "INSERT INTO t VALUES (5)")
    said = []

    def insert(connection):
        try:
            said.append(connection.execute("INSERT INTO t VALUES (1)").statusmessage)
        except psycopg.Error as error:
            said.append(error.sqlstate)

    with endpoint.connect() as changer, endpoint.connect() as writer:
        changer.execute("BEGIN")
        changer.execute("DROP TABLE t")
        changer.execute(f"CREATE TABLE t (id int PRIMARY KEY){KINDS[new]}")
        thread = threading.Thread(target=insert, args=(writer,))
        thread.start()
        wait_until(lambda: somebody_waits(servers), "the INSERT to wait")
        changer.execute("COMMIT")
        thread.join()
    assert said[0] == "INSERT 0 1" or said[0][:2] == "40"
    assert endpoint.run("SELECT id FROM t") == ([(1,)] if said[0] == "INSERT 0 1" else [])
    assert misplaced_rows(endpoint) == []


def write_until(connection, table, first, acknowledged, enough):
    """One row after the other from the moment that the table is there."""
    key = first
    while len(acknowledged) < enough:
        try:
            connection.execute(f"INSERT INTO {table} VALUES ({key})")
            acknowledged.append(key)
            key += 1
        except psycopg.errors.UndefinedTable:
            pass


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_table_that_is_just_being_made(endpoint, kind):
    for number in range(3):
        acknowledged = [[], []]
        with endpoint.connect() as one, endpoint.connect() as other:
            threads = [threading.Thread(target=write_until, args=(connection, f"new_{number}", first, rows, 50))
                       for connection, first, rows in ((one, 0, acknowledged[0]), (other, 1000, acknowledged[1]))]
            for thread in threads:
                thread.start()
            endpoint.run(f"CREATE TABLE new_{number} (id int PRIMARY KEY){KINDS[kind]}")
            for thread in threads:
                thread.join()
        assert sorted(endpoint.run(f"SELECT id FROM new_{number}")) == [(key,) for rows in acknowledged for key in rows]
    assert misplaced_rows(endpoint) == []


def read_until(connection, view, said, enough):
    """The same prepared statement from the moment that the view is there."""
    while len(said) < enough:
        try:
            said.append(connection.execute(f"SELECT id, n FROM {view} WHERE id = %s", (1,), prepare=True).fetchall())
        except psycopg.errors.UndefinedTable:
            pass
        except psycopg.Error as error:
            said.append(error)
            return


def test_prepared_reads_of_a_view_that_is_just_being_made(endpoint):
    endpoint.run("CREATE TABLE seen (id int PRIMARY KEY, n int) SHARD BY (id)", "INSERT INTO seen VALUES (1, 10)")
    for number in range(5):
        said = [[], []]
        with endpoint.connect() as one, endpoint.connect() as other:
            threads = [threading.Thread(target=read_until, args=(connection, f"view_{number}", rows, 50))
                       for connection, rows in ((one, said[0]), (other, said[1]))]
            for thread in threads:
                thread.start()
            endpoint.run(f"CREATE VIEW view_{number} AS SELECT id, n FROM seen", "CREATE TABLE more (id int)", "DROP TABLE more")
            for thread in threads:
                thread.join()
        assert said == [[[(1, 10)]] * 50] * 2


@pytest.mark.parametrize("open_one", ["ALTER TABLE one ADD COLUMN x int", "LOCK TABLE one", "TRUNCATE one"])
@pytest.mark.parametrize("sql", ["ALTER TABLE two ADD COLUMN y int DEFAULT 1", "CREATE TABLE three (id int) SHARD BY (id)",
                                 "CREATE TYPE mood AS ENUM ('ok')"])
def test_a_schema_change_does_not_wait_for_another_table(endpoint, open_one, sql):
    endpoint.run("CREATE TABLE one (id int PRIMARY KEY, v int DEFAULT 5)", "CREATE TABLE two (id int PRIMARY KEY)")
    with endpoint.connect() as holder, endpoint.connect() as changer:
        holder.execute("BEGIN")
        holder.execute(open_one)
        changer.execute(f"SET statement_timeout = '{5 * PATIENCE}s'")
        changer.execute(sql)
        holder.execute("COMMIT")
    assert fsck.differences(endpoint) == []


def repeat(endpoint, over, statements, problems):
    with endpoint.connect() as connection:
        try:
            while not over.is_set():
                for sql in statements:
                    connection.execute(sql)
        except psycopg.Error as error:
            problems.append(f"{sql}: {error}")


def test_catalogs_are_read_in_one_piece(make_server, make_router):
    """Somebody looks at all tables while others make and change some: no table is half there."""
    router = make_router([make_server("g1"), make_server("g2")])
    router.endpoint.run("CREATE TABLE one (id int)", "CREATE TABLE two (id int)")
    over, problems = threading.Event(), []
    work = [["SELECT * FROM pgmosaic.tables"]] * 2
    work += [[f"CREATE TABLE made_{number} (id int PRIMARY KEY) SHARD BY (id) WITH (shard_count = 2)", f"DROP TABLE made_{number}"]
             for number in range(3)]
    work += [[f"ALTER TABLE {table} ADD COLUMN c int", f"ALTER TABLE {table} DROP COLUMN c"] for table in ("one", "two")]
    threads = [threading.Thread(target=repeat, args=(router.endpoint, over, statements, problems)) for statements in work]
    for thread in threads:
        thread.start()
    over.wait(4)
    over.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert router.require_running()


def test_schema_changes_under_fire(make_server, make_router):
    """A short share of `./x soak schema`."""
    servers = [make_server(f"g{number}") for number in (1, 2, 3)]
    router = make_router(servers, settings={"pool": {"size_per_group": 40}})
    one = Round(router, servers, router.endpoint, clients=8, seed="share 1")
    found = one.run(fire_s=10, peace_s=3, pause_s=0.8)
    print(one.summary())
    assert found == []


@pytest.fixture
def home_and_router(make_server, make_router):
    servers = [make_server(name, {"synchronous_commit": "local"}) for name in ("g1", "g2")]
    return servers[0], make_router(servers)


@pytest.mark.parametrize("kind", ["sharded", "reference"])
def test_names_of_a_change_in_doubt(home_and_router, kind):
    """The home commits a new table and dies before it says so: until the router knows, nobody takes it for a local one."""
    home, router = home_and_router
    plain, endpoint = home.endpoint, router.endpoint
    endpoint.run("CREATE TABLE waits (id int) WITH (table_type = 'local')",
                 "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS "
                 "$$ BEGIN PERFORM set_config('synchronous_commit', 'on', true); RETURN NEW; END $$",
                 "CREATE TRIGGER waits BEFORE INSERT ON waits FOR EACH ROW EXECUTE FUNCTION waits()")
    plain.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
    said = []

    def change():
        try:
            with endpoint.connect(autocommit=True) as connection:
                connection.execute("BEGIN")
                connection.execute("INSERT INTO waits VALUES (1)")
                connection.execute("NOTIFY waits")  # the home is the anchor
                connection.execute(f"CREATE TABLE t (id int PRIMARY KEY){KINDS[kind]}")
                connection.execute("COMMIT")
        except psycopg.Error as error:
            said.append(error.sqlstate)

    changer = threading.Thread(target=change)
    changer.start()
    wait_until(lambda: plain.run("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == [(1,)],
               "the home to have committed")
    kill_at_once(home)
    changer.join()
    assert said == ["08007"]
    home.start()
    rows = []
    while len(rows) < 20:
        try:
            endpoint.run(f"INSERT INTO t VALUES ({len(rows)})")
            rows.append((len(rows),))
        except psycopg.OperationalError:
            pass  # connections from before the crash
    assert endpoint.run("SELECT id FROM t ORDER BY id") == rows
    assert fsck.differences(endpoint) == []


def test_each_change_is_known_when_it_is_done(endpoint):
    """Many sessions change the schema at once: what one of them has committed is in the catalog that it goes on with."""
    problems = []

    def change(number):
        try:
            with endpoint.connect(autocommit=True) as connection:
                connection.execute(f"CREATE TABLE own_{number} (id int PRIMARY KEY) SHARD BY (id) WITH (shard_count = 4)")
                connection.execute(f"INSERT INTO own_{number} VALUES (1), (2), (3)")
                for column in range(20):
                    connection.execute(f"ALTER TABLE own_{number} ADD COLUMN c{column} int DEFAULT 5")
                    if connection.execute(f"SELECT sum(c{column}) FROM own_{number}").fetchone() != (15,):
                        problems.append(f"own_{number}, c{column}: another sum")
        except psycopg.Error as error:
            problems.append(f"own_{number}: {error}")

    threads = [threading.Thread(target=change, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
