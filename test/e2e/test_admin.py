"""The admin database, /metrics and /ready, and functions that name sessions by pid."""
import os
import signal
import subprocess
import urllib.error
import urllib.request

import psycopg
import pytest

from harness.cluster import PASSWORD, PostgresServer, scram_verifier
from harness.processes import PATIENCE, wait_until
from harness.schemas import group_endpoints
from harness.wire import BINARY, Session

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v int) SHARD BY (id)"
ROWS = "INSERT INTO t VALUES " + ", ".join(f"({i}, {i})" for i in range(1, 101))
VIEWS = ["POOLS", "CLIENTS", "SERVERS", "STATS", "CONFIG", "GROUPS", "DATABASES", "VERSION", "HELP"]


@pytest.fixture(scope="module")
def servers():
    made = [PostgresServer(f"admin-g{number}").start() for number in (1, 2)]
    yield made
    for server in made:
        server.stop()


@pytest.fixture
def router(servers, make_router):
    """A router over fresh databases of servers that live longer."""
    for server in servers:
        server.wait_for_no_clients()
        server.endpoint.run("DROP SCHEMA public CASCADE", "CREATE SCHEMA public",
                            "GRANT USAGE ON SCHEMA public TO public",
                            "DROP TABLE IF EXISTS pg_catalog.pgmosaic_member, pg_catalog.pgmosaic_commit_log",
                            "DROP SCHEMA IF EXISTS pgmosaic_shards CASCADE",
                            "DROP DATABASE IF EXISTS pgmosaic_shards_postgres", "DROP ROLE IF EXISTS app",
                            "DROP ROLE IF EXISTS mate")
    made = make_router(servers, settings={"timeouts": {"shutdown_ms": 2000}})
    made.endpoint.run(TABLE, ROWS)
    return made


def admin(router, **changes):
    return router.endpoint.change(database="pgmosaic", **changes)


def table(endpoint, view):
    """Rows of a view as dictionaries."""
    with endpoint.connect(row_factory=psycopg.rows.dict_row) as connection:
        return connection.execute(f"SHOW {view}").fetchall()


def page(router, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{router.http_port}{path}", timeout=10 * PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def samples(router):
    text = page(router, "/metrics")[1]
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if not line.startswith("#")}


def make_role(servers, name, attributes=""):
    for server in servers:
        server.endpoint.run(f"CREATE ROLE {name} LOGIN {attributes} PASSWORD '{scram_verifier(PASSWORD)}'")


# --- SHOW ---

@pytest.mark.parametrize("mode", ["simple", "extended"])
def test_every_view_in_both_protocols(router, mode):
    session = Session(admin(router))
    for view in VIEWS:
        [answer] = getattr(session, mode)(f"SHOW {view}")
        assert not answer.sqlstate and answer.tag == "SHOW" and answer.rows and answer.names, view
    session.close()


def test_numbers_in_binary(router):
    session = Session(admin(router))
    [text] = session.extended("SHOW GROUPS")
    [binary] = session.extended("SHOW GROUPS", result_format=BINARY)
    port = text.names.index("port")
    assert text.types[port] == 20
    assert [int(row[port]) for row in text.rows] == [int.from_bytes(row[port], "big") for row in binary.rows]
    session.close()


def test_what_the_views_say(router, servers):
    client = router.endpoint.change(options=(("application_name", "bee"),)).connect(autocommit=False)
    client.execute("SELECT * FROM t WHERE id = 7")
    [mine] = [row for row in table(admin(router), "CLIENTS") if row["application_name"] == "bee"]
    assert mine["pid"] == client.info.backend_pid and mine["state"] == "idle in transaction"
    assert (mine["user"], mine["database"]) == ("postgres", "postgres") and "id = 7" in mine["query"]
    [group, pid] = mine["backends"].split(":")
    server = {"home": servers[0], "g1": servers[0], "g2": servers[1]}[group]
    assert server.endpoint.run(f"SELECT state FROM pg_stat_activity WHERE pid = {pid}") == [("idle in transaction",)]
    [backend] = [row for row in table(admin(router), "SERVERS") if row["client_pid"] == mine["pid"]]
    assert (backend["group"], backend["pid"], backend["state"]) == (group, int(pid), "in transaction")
    used = {row["group"]: row for row in table(admin(router), "POOLS") if row["user"] == "postgres"}
    assert used[group]["in_use"] == 1
    client.rollback()
    assert {row["group"]: row["in_use"] for row in table(admin(router), "POOLS") if row["user"] == "postgres"}[group] == 0
    client.close()
    [database] = [row for row in table(admin(router), "DATABASES") if row["name"] == "postgres"]
    assert (database["sharded_tables"], database["paused"]) == (1, "no")
    groups = table(admin(router), "GROUPS")
    assert [(row["name"], row["port"], row["home"], row["up"]) for row in groups] == [
        ("g1", servers[0].endpoint.port, "no", "yes"), ("g2", servers[1].endpoint.port, "no", "yes"),
        ("home", servers[0].endpoint.port, "yes", "yes")]
    settings = {row["name"]: row["value"] for row in table(admin(router), "CONFIG")}
    assert settings["timeouts.shutdown_ms"] == "2000" and PASSWORD not in settings.values()


def test_statistics_count(router):
    def counted():
        [row] = [row for row in table(admin(router), "STATS") if row["worker"] == "all"]
        return row
    before = counted()
    with router.endpoint.connect() as client:
        for number in range(50):
            client.execute(f"SELECT v FROM t WHERE id = {number}")
    after = counted()
    assert after["statements"] - before["statements"] == 50
    assert after["distributed_commits"] == before["distributed_commits"]
    router.endpoint.run("UPDATE t SET v = v WHERE id < 50")
    assert counted()["distributed_commits"] == before["distributed_commits"] + 1
    assert after["p99_us"] >= after["p50_us"] > 0


def test_psql(router):
    def psql(*commands):
        arguments = [part for command in commands for part in ("-c", command)]
        return subprocess.run(["psql", "-X", "-A", "-t", *arguments], env={**os.environ, **admin(router).environment()},
                              capture_output=True, text=True, timeout=30 * PATIENCE)
    said = psql("SHOW VERSION", "SHOW DATABASES; SHOW GROUPS")
    assert said.returncode == 0, said.stderr
    assert "pgmosaic" in said.stdout and "g2|" in said.stdout
    assert "SHOW POOLS" in psql("SHOW HELP").stdout


@pytest.mark.parametrize("mode", ["simple", "extended"])
def test_what_is_no_command(router, mode):
    session = Session(admin(router))
    for wrong in ("SELECT 1", "SHOW TABLES", "PAUSE a b", "KILL", "KILL x", "RELOAD now", "("):
        [answer] = getattr(session, mode)(wrong)
        assert answer.sqlstate == "42601" and "POOLS" in answer.hint, wrong
    assert getattr(session, mode)("SHOW VERSION")[0].rows
    assert session.simple("")[0].status == "EMPTY_QUERY"
    for driver_own in ("BEGIN", "SET application_name = 'x'", "COMMIT"):
        assert not session.simple(driver_own)[0].sqlstate
    session.close()


def test_only_superusers(router, servers):
    make_role(servers, "app")
    assert router.endpoint.change(user="app").run("SELECT 1") == [(1,)]
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        admin(router, user="app").connect()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        admin(router, password="wrong").connect()


# --- PAUSE and RESUME ---

def test_pause_waits_for_transactions_and_holds_new_ones(router, servers):
    busy = router.endpoint.connect(autocommit=False)
    busy.execute("UPDATE t SET v = 0 WHERE id = 1")
    console = Session(admin(router))
    console.connection.send_query(b"PAUSE")
    wait_until(lambda: {row["paused"] for row in table(admin(router), "DATABASES")} == {"yes"}, "the pause to begin")
    assert console.connection.is_busy()
    busy.execute("UPDATE t SET v = 0")  # a transaction under way may reach groups that it has not used yet
    assert console.connection.is_busy()
    busy.commit()
    result = console.next_result()
    assert result.command_status == b"PAUSE"
    for server in servers:
        assert server.endpoint.run("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
                                   "AND usename = 'postgres' AND pid <> pg_backend_pid()") == [(0,)]
    busy.autocommit = True
    busy.pgconn.send_query(b"SELECT sum(v) FROM t")
    wait_until(lambda: "waiting" in {row["state"] for row in table(admin(router), "CLIENTS")}, "the client to wait")
    admin(router).run("RESUME")
    assert busy.pgconn.get_result().get_value(0, 0) == b"0"
    busy.close()
    console.close()


def test_pause_of_one_database(router):
    router.endpoint.run("DROP DATABASE IF EXISTS other", "CREATE DATABASE other")
    client = Session(router.endpoint.change(database="other"))
    admin(router).run("PAUSE other")
    assert router.endpoint.run("SELECT count(*) FROM t") == [(100,)]
    client.connection.send_query(b"SELECT 1")
    wait_until(lambda: {row["name"]: row["waiting_clients"] for row in table(admin(router), "DATABASES")}["other"] == 1,
               "the client to wait")
    admin(router).run("RESUME other")
    assert client.next_result().get_value(0, 0) == b"1"
    client.close()
    with pytest.raises(psycopg.Error, match="nowhere"):
        admin(router).run("PAUSE nowhere")
    router.endpoint.drop_database("other")


def test_a_pause_can_be_cancelled(router):
    busy = router.endpoint.connect(autocommit=False)
    busy.execute("SELECT * FROM t")
    console = Session(admin(router))
    console.connection.send_query(b"PAUSE")
    wait_until(lambda: {row["paused"] for row in table(admin(router), "DATABASES")} == {"yes"}, "the pause to begin")
    console.cancel()
    result = console.next_result()
    assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"57014" and console.next_result() is None
    assert router.endpoint.run("SELECT count(*) FROM t") == [(100,)]
    console.connection.send_query(b"PAUSE")
    wait_until(lambda: {row["paused"] for row in table(admin(router), "DATABASES")} == {"yes"}, "the second pause")
    console.close()  # an operator who goes away takes the pause along
    wait_until(lambda: {row["paused"] for row in table(admin(router), "DATABASES")} == {"no"}, "the end of the pause")
    busy.close()


# --- RELOAD, SHUTDOWN, CANCEL, KILL ---

def test_reload(router):
    text = router.file.read_text()
    router.file.write_text(text.replace("shutdown_ms = 2000", "shutdown_ms = 2500"))
    admin(router).run("RELOAD")
    assert {row["name"]: row["value"] for row in table(admin(router), "CONFIG")}["timeouts.shutdown_ms"] == "2500"
    router.file.write_text(text.replace("shutdown_ms = 2000", "shutdown_ms = \"soon\""))
    with pytest.raises(psycopg.Error, match="shutdown_ms"):
        admin(router).run("RELOAD")
    assert router.endpoint.run("SELECT 1") == [(1,)]


def test_shutdown_lets_transactions_finish(router):
    busy = router.endpoint.connect(autocommit=False)
    busy.execute("UPDATE t SET v = 7 WHERE id = 1")
    admin(router).run("SHUTDOWN")
    busy.commit()
    assert router.process.wait(timeout=30 * PATIENCE) == 0
    busy.close()
    router.start()
    assert router.endpoint.run("SELECT v FROM t WHERE id = 1") == [(7,)]


def test_cancel_and_kill(router):
    client = Session(router.endpoint)
    pid = client.connection.backend_pid

    def run_long():
        client.connection.send_query(b"SELECT pg_sleep(60) FROM t WHERE id = 1")
        wait_until(lambda: [row for row in table(admin(router), "CLIENTS") if row["pid"] == pid and row["state"] == "active"
                            and row["backends"]], "the statement to run")

    def sqlstate():
        return client.next_result().error_field(psycopg.pq.DiagnosticField.SQLSTATE)

    run_long()
    admin(router).run(f"CANCEL {pid}")
    assert sqlstate() == b"57014" and client.next_result() is None
    run_long()
    admin(router).run(f"KILL {pid}")
    while (result := client.next_result()) is not None:
        assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) in (b"57014", b"57P01", None)
    wait_until(lambda: pid not in {row["pid"] for row in table(admin(router), "CLIENTS")}, "the client to be gone")
    client.close()
    with pytest.raises(psycopg.errors.UndefinedObject):
        admin(router).run("KILL 99999999")


# --- HTTP ---

def test_metrics(router):
    with router.endpoint.connect(autocommit=False) as client:
        for number in range(20):
            client.execute(f"SELECT v FROM t WHERE id = {number}")
        wait_until(lambda: samples(router).get('pgmosaic_clients{state="idle in transaction"}') == 1, "the gauges")
        found = samples(router)
    total = sum(value for name, value in found.items() if name.startswith("pgmosaic_statements_total{"))
    timed = sum(value for name, value in found.items() if name.startswith("pgmosaic_statement_seconds_count{"))
    assert total >= 20 and timed == total
    assert any(name.startswith("pgmosaic_pool_backends_in_use{") and 'group="g1"' in name for name in found)
    assert found["pgmosaic_uptime_seconds"] > 0 and found["pgmosaic_plan_cache_entries"] > 0
    assert found['pgmosaic_group_up{group="g1"}'] == found['pgmosaic_group_up{group="g2"}'] == 1


def test_not_ready_while_no_group_answers(make_server, make_router):
    server = make_server("lonely")
    router = make_router([server])
    assert page(router, "/ready")[0] == 200
    os.kill(server.pid, signal.SIGQUIT)
    server.process.wait(timeout=30 * PATIENCE)
    wait_until(lambda: page(router, "/ready")[0] == 503, "the router to notice", timeout_s=30)
    assert page(router, "/health")[0] == 200 and samples(router)['pgmosaic_group_up{group="g1"}'] == 0
    server.start()
    wait_until(lambda: page(router, "/ready")[0] == 200, "the router to be ready again", timeout_s=30)


# --- pids ---

def test_backend_pid_is_the_one_of_the_connection(router):
    with router.endpoint.connect() as client:
        pid = client.info.backend_pid
        for sql in ("SELECT pg_backend_pid()", "select pg_catalog.pg_backend_pid() AS me;"):
            assert client.execute(sql).fetchone() == (pid,)
            assert client.execute(sql, binary=True, prepare=True).fetchone() == (pid,)
        assert client.execute("SELECT pg_backend_pid() AS me").description[0].name == "me"
        [(found,)] = client.execute("SELECT pid FROM pgmosaic.activity WHERE query LIKE 'SELECT pid FROM pgmosaic%'").fetchall()
        assert found == pid
        others = "SELECT DISTINCT pid FROM pgmosaic.activity WHERE pid {} pg_backend_pid()"
        assert client.execute(others.format("=")).fetchall() == [(pid,)]
        assert (pid,) not in client.execute(others.format("<>")).fetchall()
        with pytest.raises(psycopg.errors.FeatureNotSupported):
            client.execute("SELECT pg_terminate_backend(pid) FROM pgmosaic.activity WHERE pid <> pg_backend_pid()")


def sleeper(router, **changes):
    """A session in mid-statement, and its pid."""
    session = Session(router.endpoint.change(**changes))
    session.connection.send_query(b"SELECT pg_sleep(60) FROM t WHERE id = 1")
    pid = session.connection.backend_pid
    wait_until(lambda: [row for row in table(admin(router), "CLIENTS") if row["pid"] == pid and row["backends"]
                        and row["query"].startswith("SELECT pg_sleep")], "the statement to run")
    # A cancel that is there before the statement is nobody's.
    sleeps = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(60)%'"
    wait_until(lambda: [row for group in group_endpoints(router.endpoint).values() for row in group.run(sleeps)], "a group to run it")
    return session, pid


def ending(session):
    """SQLSTATEs of all that is left to read."""
    states = []
    while (result := session.next_result()) is not None:
        states.append((result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) or b"").decode())
    session.close()
    return states


@pytest.mark.parametrize("form", ["constant", "quoted", "parameter", "binary parameter", "prepared", "named column"])
def test_cancel_in_every_form(router, form):
    session, pid = sleeper(router)
    with router.endpoint.connect() as client:
        if form == "constant":
            answer = client.execute(f"SELECT pg_cancel_backend({pid})")
        elif form == "quoted":
            answer = client.execute(f"SELECT pg_cancel_backend('{pid}'::int)")
        elif form == "parameter":
            answer = client.execute("SELECT pg_cancel_backend(%t)", [pid])
        elif form == "binary parameter":
            answer = client.execute("SELECT pg_cancel_backend(%b)", [pid], binary=True)
        elif form == "prepared":
            client.execute("PREPARE p AS SELECT pg_cancel_backend($1)")
            answer = client.execute(f"EXECUTE p({pid})")
        else:
            answer = client.execute(f"SELECT pg_catalog.pg_cancel_backend({pid}) AS done")
            assert answer.description[0].name == "done"
        assert answer.fetchall() == [(True,)]
    assert ending(session) == ["57014"]


def test_terminate(router):
    session, pid = sleeper(router)
    assert router.endpoint.run(f"SELECT pg_terminate_backend({pid})") == [(True,)]
    assert ending(session)[0] in ("57014", "57P01")
    wait_until(lambda: router.endpoint.run(f"SELECT count(*) FROM pgmosaic.activity WHERE pid = {pid}") == [(0,)], "the session to be gone")


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
def test_unknown_pids_and_null_are_as_in_postgresql(router, oracle, function):
    ours, theirs = Session(router.endpoint), Session(oracle)
    for argument in ("2000000000", "NULL", "'x'", "-1", "'12345678901'"):
        for mode in ("simple", "extended"):
            [mine], [other] = (getattr(session, mode)(f"SELECT {function}({argument})") for session in (ours, theirs))
            assert (mine.rows, mine.notices, mine.sqlstate, mine.message, mine.names, mine.types) == (
                other.rows, other.notices, other.sqlstate, other.message, other.names, other.types), argument
    [mine], [other] = (session.extended(f"SELECT {function}($1)", [None]) for session in (ours, theirs))
    assert mine.rows == other.rows == [(None,)]
    ours.close()
    theirs.close()


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
def test_who_may_signal_whom(router, servers, oracle_server, function):
    plain = oracle_server.endpoint
    roles = [("app", ""), ("mate", "")]
    for name, attributes in roles:
        make_role([*servers, oracle_server], name, attributes)
    router.endpoint.run("GRANT SELECT ON t TO app, mate")

    def answer(endpoint, user, pid):
        session = Session(endpoint.change(user=user))
        [said] = session.simple(f"SELECT {function}({pid})")
        session.close()
        return said.rows, said.sqlstate, said.message

    try:
        for owner in ("postgres", "app"):
            reference = Session(plain.change(user=owner))
            session, pid = sleeper(router, user=owner)
            refused = answer(router.endpoint, "mate", pid)
            assert refused == answer(plain, "mate", reference.connection.backend_pid) and refused[1] == "42501"
            reference.close()
            assert answer(router.endpoint, owner, pid)[0] == [(b"t",)]
            assert ending(session)[0].startswith("57")
    finally:
        plain.run("DROP ROLE app", "DROP ROLE mate")
        router.endpoint.run("REVOKE ALL ON t FROM app, mate")
