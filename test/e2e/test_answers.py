"""What clients rely on beside rows: fields of errors, notifications in transactions, sessions that outlive a password."""
import subprocess
import threading

import psycopg
import pytest

from harness.cluster import program
from harness.pair import databases
from harness.processes import PATIENCE, wait_until
from harness.raw import RawClient, query
from harness.schemas import group_endpoints
from harness.wire import Session

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v int CHECK (v > 0)) SHARD BY (id)"
ROWS = "INSERT INTO t VALUES " + ", ".join(f"({i}, {i})" for i in range(1, 41))


@pytest.fixture(scope="module")
def endpoint(router):
    with databases("answers", router) as [made]:
        made.run(TABLE, ROWS, "CREATE TABLE ref (id int PRIMARY KEY, v int) WITH (table_type = 'reference')")
        yield made


@pytest.mark.parametrize("sql, constraint", [
    ("INSERT INTO t VALUES (50, 1), (51, -1), (52, 1)", "t_v_check"),
    ("UPDATE t SET v = -v", "t_v_check"),
    ("INSERT INTO ref VALUES (1, 1), (1, 2)", "ref_pkey"),
])
def test_errors_of_several_groups_keep_their_fields(endpoint, sql, constraint):
    with endpoint.connect() as connection, pytest.raises(psycopg.Error) as raised:
        connection.execute(sql)
    diag = raised.value.diag
    assert diag.constraint_name == constraint
    assert diag.schema_name == "public" and diag.table_name == constraint.split("_")[0]
    assert not diag.message_detail or "group" not in diag.message_detail


def test_returning_has_the_order_of_values(endpoint):
    rows = [(9 * i % 41 + 200, i) for i in range(1, 41)]
    values = ", ".join(f"({key}, {i})" for key, i in rows)
    with endpoint.connect(autocommit=False) as connection:
        assert connection.execute(f"INSERT INTO t VALUES {values} RETURNING id, v").fetchall() == rows
        upsert = f"INSERT INTO t VALUES {values} ON CONFLICT (id) DO UPDATE SET v = excluded.v + 1 RETURNING id, v - 1"
        assert connection.execute(upsert).fetchall() == rows
        placeholders = ", ".join(["(%s, %s)"] * len(rows))
        connection.execute("DELETE FROM t WHERE id >= 200")
        found = connection.execute(f"INSERT INTO t VALUES {placeholders} RETURNING v, id", [x for row in rows for x in row])
        assert found.fetchall() == [(i, key) for key, i in rows]
        connection.rollback()


def test_copy_errors_say_where(endpoint):
    with endpoint.connect() as connection, pytest.raises(psycopg.Error) as raised:
        with connection.cursor().copy("COPY t FROM STDIN") as copy:
            for number in range(100, 200):
                copy.write_row((number, "abc" if number == 150 else 1))
    assert 'column v: "abc"' in raised.value.diag.context


def test_the_first_message_of_a_session_may_be_wrong(endpoint):
    session = Session(endpoint)
    assert [answer.sqlstate for answer in session.simple("SELECT 1; SELEC")] == ["42601"]
    assert session.simple("SELECT 1")[0].rows == [(b"1",)]
    session.close()


DEEP = {
    "casts": "SELECT 1" + "::int" * 30000,
    "operators": "SELECT 1" + "+1" * 30000,
    "prefixes": "SELECT " + "NOT " * 30000 + "true",
    "sub_queries": "(SELECT " * 3000 + "1" + ")" * 3000,
    "set_operations": "SELECT 1" + " UNION SELECT 1, 2" * 30000,
    "cases": "SELECT " + "CASE WHEN true THEN " * 20000 + "1" + " END" * 20000,
}


@pytest.mark.parametrize("shape", DEEP)
def test_statements_too_deep_are_refused(endpoint, shape):
    session = Session(endpoint)
    for text in (DEEP[shape], DEEP[shape] + " FROM t"):
        answer, = session.simple(text)
        assert answer.sqlstate in ("54001", "0A000", "42601"), answer
    assert session.simple("SELECT 1")[0].rows == [(b"1",)]
    session.close()


def test_wide_statements_are_not_deep(endpoint):
    session = Session(endpoint)
    session.simple("BEGIN")
    values = ", ".join(f"({i}, {i})" for i in range(1000, 13000))
    assert session.simple(f"INSERT INTO t VALUES {values}")[0].tag == "INSERT 0 12000"
    cases = " ".join(f"WHEN id = {i} THEN {i}" for i in range(3000))
    assert session.simple(f"SELECT CASE {cases} END FROM t WHERE id = 7")[0].rows == [(b"7",)]
    conditions = " OR ".join(f"id = {i}" for i in range(5000))
    assert session.simple(f"SELECT count(*) FROM t WHERE {conditions}")[0].rows == [(b"4040",)]
    session.simple("ROLLBACK")
    session.close()


def test_a_listener_in_a_transaction_hears_everything(endpoint):
    listener = endpoint.connect(autocommit=True)
    heard = []
    listener.add_notify_handler(lambda note: heard.append(note.payload))
    listener.execute("LISTEN news")
    sender = endpoint.connect(autocommit=True)
    for turn, end in enumerate(["COMMIT", "ROLLBACK", "COMMIT"]):
        listener.execute("BEGIN")
        listener.execute("SELECT v FROM t WHERE id = 1")
        sender.execute(f"NOTIFY news, 'turn {turn}'")
        listener.execute("SELECT count(*) FROM t")
        listener.execute(end)
    listener.execute("BEGIN")
    listener.execute("NOTIFY news, 'own'")
    listener.execute("COMMIT")

    def listen():
        listener.execute("SELECT 1")
        return len(heard) >= 4

    wait_until(listen, "four notifications")
    assert heard == ["turn 0", "turn 1", "turn 2", "own"]
    listener.close()
    sender.close()


def test_a_changed_password_leaves_sessions_alone(endpoint):
    endpoint.run("DROP ROLE IF EXISTS answers_bob", "CREATE ROLE answers_bob LOGIN PASSWORD 'old'",
                 "GRANT SELECT, UPDATE ON t TO answers_bob")
    session = Session(endpoint, user="answers_bob", password="old")
    try:
        assert session.simple("SELECT v FROM t WHERE id = 2")[0].rows == [(b"2",)]
        endpoint.run("ALTER ROLE answers_bob PASSWORD 'new'")
        for key in range(1, 20):
            assert session.simple(f"SELECT v FROM t WHERE id = {key}")[0].rows == [(str(key).encode(),)]
        assert session.simple("ALTER ROLE answers_bob PASSWORD 'newer'")[0].tag == "ALTER ROLE"
        assert session.simple("SELECT count(*) FROM t")[0].rows == [(b"40",)]
        for password, good in (("old", False), ("new", False), ("newer", True)):
            if good:
                Session(endpoint, user="answers_bob", password=password).close()
            else:
                with pytest.raises(ConnectionError, match="password authentication failed"):
                    Session(endpoint, user="answers_bob", password=password)
        endpoint.run("ALTER ROLE answers_bob NOLOGIN")
        with pytest.raises(ConnectionError, match="is not permitted to log in"):
            Session(endpoint, user="answers_bob", password="newer")
    finally:
        session.close()
        endpoint.run("REVOKE ALL ON t FROM answers_bob", "DROP ROLE answers_bob")


def test_an_idle_transaction_that_the_server_ends(endpoint):
    session = Session(endpoint)
    session.simple("BEGIN; SELECT v FROM t WHERE id = 1")

    def ended():
        return endpoint.run("SELECT count(*) FROM pgmosaic.activity WHERE state = 'idle in transaction' AND "
                            "query LIKE 'SELECT v FROM t WHERE id = 1%' AND backend_pid IS NOT NULL") == [(0,)]

    for group in group_endpoints(endpoint).values():
        group.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction' AND "
                  "query LIKE 'SELECT v FROM t WHERE id = 1%'")
    wait_until(ended, "the end of the backend")
    answer, = session.simple("SELECT v FROM t WHERE id = 1")
    assert answer.sqlstate == "08006"
    session.simple("ROLLBACK")
    assert session.simple("SELECT v FROM t WHERE id = 1")[0].rows == [(b"1",)]
    session.close()


def test_a_client_that_left_a_pipeline_leaves_no_backend(endpoint):
    """Also where its batch has failed on one group and no Sync ever comes."""
    from harness.raw import bind, execute, parse
    client = RawClient(endpoint)
    client.login(application_name="left pipeline")
    client.send(parse("INSERT INTO t VALUES ($1, 1)"), bind(["1"]), execute(), bind(["2"]), execute(), bind(["3"]), execute())
    client.close()

    def gone():
        return endpoint.run("SELECT count(*) FROM pgmosaic.activity WHERE application_name = 'left pipeline'") == [(0,)]

    wait_until(gone, "the end of the session")


def test_schema_changes_beside_statements_over_all_groups(endpoint):
    """They take the table's locks in any order; neither waits for ever."""
    endpoint.run("CREATE TABLE busy (id int PRIMARY KEY, v int) SHARD BY (id)",
                 "INSERT INTO busy SELECT id, 0 FROM t")
    over = threading.Event()
    problems = []

    def work(statements):
        with endpoint.connect(autocommit=True) as connection:
            while not over.is_set():
                for sql in statements:
                    try:
                        connection.execute(sql)
                    except psycopg.Error as error:
                        problems.append(f"{sql}: {error}")
                        return

    threads = [threading.Thread(target=work, args=(statements,), daemon=True) for statements in (
        ["UPDATE busy SET v = v + 1", "SELECT count(*) FROM busy", "INSERT INTO busy VALUES (100, 1), (101, 1), (102, 1)",
         "DELETE FROM busy WHERE id >= 100"],
        ["ALTER TABLE busy ADD COLUMN other int DEFAULT 1", "ALTER TABLE busy DROP COLUMN other"])]
    for thread in threads:
        thread.start()
    with endpoint.connect(autocommit=True) as connection:
        for turn in range(8):
            connection.execute(f"ALTER TABLE busy ADD COLUMN c{turn} int DEFAULT {turn}")
            connection.execute("CREATE INDEX busy_v ON busy (v)")
            connection.execute("DROP INDEX busy_v")
    over.set()
    for thread in threads:
        thread.join(timeout=120 * PATIENCE)
        assert not thread.is_alive()
    assert problems == []


def test_one_router_at_a_time_serves_a_store(make_server, make_router):
    servers = [make_server(f"g{number}") for number in (1, 2)]
    router = make_router(servers)
    second = subprocess.run([program(), "router", "--config", str(router.file), "--port", "1"],
                            capture_output=True, text=True, timeout=60 * PATIENCE)
    assert second.returncode == 1 and "another router serves the metadata store" in second.stderr
    assert router.endpoint.run("SELECT 1") == [(1,)]
