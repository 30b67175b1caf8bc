"""`pgmosaic router` over PostgreSQL servers that it did not start: preflight, TLS, SCRAM, limits, reload, health."""
import concurrent.futures
import os
import signal
import subprocess
import threading
import urllib.error
import urllib.request

import psycopg
import pytest

from harness.cluster import PASSWORD, program, scram_verifier
from harness.raw import RawClient
from harness.processes import PATIENCE, wait_until
from harness.wire import Session

SHARDS = "pgmosaic_shards_postgres"  # on the home's server
TABLE = "CREATE TABLE t (id int PRIMARY KEY, v int) SHARD BY (id)"
ROWS = "INSERT INTO t VALUES " + ", ".join(f"({i}, {i})" for i in range(1, 101))


@pytest.fixture
def servers(make_server):
    return [make_server(f"g{number}") for number in (1, 2)]


@pytest.mark.parametrize("count", [1, 3])
def test_groups_of_any_number(make_server, make_router, count):
    router = make_router([make_server(f"g{number}") for number in range(count)])
    router.endpoint.run(TABLE, ROWS)
    assert router.endpoint.run("SELECT count(*), sum(v) FROM t") == [(100, 5050)]
    home, *others = [server.endpoint for server in router.servers]
    assert home.run("SELECT count(*) FROM t") == [(0,)]
    held = [endpoint.run("SELECT count(*) FROM t")[0][0] for endpoint in [home.change(database=SHARDS), *others]]
    assert sum(held) == 100 and min(held) > 0
    assert router.endpoint.run("SELECT count(*) FROM pgmosaic.groups") == [(count,)]


def test_state_is_found_again(servers, make_router):
    router = make_router(servers)
    router.endpoint.run(TABLE, ROWS)
    router.stop()
    router.start()
    assert router.endpoint.run("SELECT count(*) FROM t") == [(100,)]
    router.kill()
    router.start()
    assert router.endpoint.run("SELECT count(*) FROM t") == [(100,)]


def test_tls(servers, make_router, certificates):
    router = make_router(servers, tls=certificates)
    verified = router.endpoint.change(options=(("sslmode", "verify-full"), ("sslrootcert", str(certificates.authority))))
    with verified.connect() as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute("SELECT 1").fetchone() == (1,)
    bound = verified.change(options=(*verified.options, ("channel_binding", "require")))
    assert bound.run("SELECT 1") == [(1,)]
    assert router.endpoint.change(options=(("sslmode", "disable"),)).run("SELECT 1") == [(1,)]
    client = RawClient(router.endpoint)
    assert client.request_tls()
    client.login()
    client.close()


def test_tls_required(servers, make_router, certificates):
    router = make_router(servers, tls=certificates, settings={"tls": {"mode": "require"}})
    assert router.endpoint.change(options=(("sslmode", "require"),)).run("SELECT 1") == [(1,)]
    with pytest.raises(psycopg.OperationalError):
        router.endpoint.change(options=(("sslmode", "disable"),)).run("SELECT 1")


def test_tls_off_is_declined(servers, make_router):
    router = make_router(servers)
    client = RawClient(router.endpoint)
    assert not client.request_tls()
    client.login()
    client.close()


def test_tls_to_the_groups(make_server, make_router, certificates):
    hba = ["local all all trust", "hostssl all all 127.0.0.1/32 scram-sha-256"]
    router = make_router([make_server("secure", tls=certificates, hba=hba)])
    assert router.endpoint.run("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [(True,)]


def test_passwords(servers, make_router):
    router = make_router(servers)
    router.endpoint.run("CREATE ROLE alice LOGIN PASSWORD 'alice knows'", "CREATE ROLE nologin PASSWORD 'x'")
    alice = router.endpoint.change(user="alice", password="alice knows")
    assert alice.run("SELECT current_user, session_user") == [("alice", "alice")]
    for server in servers:  # one verifier everywhere, never the password itself
        secret = server.endpoint.run("SELECT rolpassword FROM pg_authid WHERE rolname = 'alice'")[0][0]
        assert secret.startswith("SCRAM-SHA-256$4096:")
    assert len({server.endpoint.run("SELECT rolpassword FROM pg_authid WHERE rolname = 'alice'")[0]
                for server in servers}) == 1
    for user, password, database in [("alice", "wrong", "postgres"), ("nobody_here", "x", "postgres"), ("alice", "", "postgres"),
                                     ("nologin", "x", "postgres"), ("alice", "alice knows", "no_database")]:
        with pytest.raises(psycopg.OperationalError):
            router.endpoint.change(user=user, password=password, database=database).run("SELECT 1")
    router.endpoint.run("ALTER ROLE alice PASSWORD 'new words'")
    assert alice.change(password="new words").run("SELECT 1") == [(1,)]
    with pytest.raises(psycopg.OperationalError):
        alice.run("SELECT 1")


def test_rules_decide_who_may_come(servers, make_router):
    auth = [{"type": "host", "user": "alice", "network": "127.0.0.1/32", "method": "reject"},
            {"type": "host", "database": "all", "user": "all", "network": "127.0.0.0/8", "method": "scram-sha-256"}]
    router = make_router(servers, auth=auth)
    router.endpoint.run("CREATE ROLE alice LOGIN PASSWORD 'alice knows'")
    with pytest.raises(psycopg.OperationalError):
        router.endpoint.change(user="alice", password="alice knows").run("SELECT 1")


def test_trust_where_the_groups_do_not_is_an_error(servers, make_router):
    router = make_router(servers, auth=[{"type": "host", "method": "trust"}], start=False)
    said = subprocess.run([program(), "router", "--config", router.file], capture_output=True, text=True,
                          timeout=60 * PATIENCE)
    assert said.returncode != 0 and "trust" in said.stderr + said.stdout


@pytest.mark.parametrize("settings,word", [
    ({"max_prepared_transactions": 0}, "max_prepared_transactions"),
    ({"timezone": "Asia/Tokyo"}, "time zone"),
])
def test_preflight_says_what_to_change(make_server, make_router, settings, word):
    good, bad = make_server("good"), make_server("bad", settings=settings)
    router = make_router([good, bad], start=False)
    said = subprocess.run([program(), "router", "--config", router.file], capture_output=True, text=True,
                          timeout=60 * PATIENCE)
    assert said.returncode != 0
    assert word in (said.stderr + said.stdout).lower() and "g2" in said.stderr + said.stdout


def test_waiting_queue_is_bounded(servers, make_router):
    router = make_router(servers, settings={"pool": {"size_per_group": 2, "wait_timeout_ms": 700}})
    router.endpoint.run(TABLE, ROWS)
    holders = [router.endpoint.connect(autocommit=False) for _ in range(2)]
    for holder in holders:
        holder.execute("SELECT * FROM t")
    with pytest.raises(psycopg.errors.TooManyConnections):
        router.endpoint.run("SELECT * FROM t")
    for holder in holders:
        holder.commit()
    assert router.endpoint.run("SELECT count(*) FROM t") == [(100,)]
    for holder in holders:
        holder.close()


def test_few_backends_serve_many_clients(servers, make_router):
    router = make_router(servers, settings={"pool": {"size_per_group": 3}})
    router.endpoint.run(TABLE, ROWS)
    clients = [router.endpoint.connect() for _ in range(100)]
    for round_number in range(3):
        for number, client in enumerate(clients):
            assert client.execute("SELECT v FROM t WHERE id = %s", (number + 1,)).fetchone() == (number + 1,), round_number
    for server in servers:
        used = server.endpoint.run("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
                                   "AND usename = 'postgres' AND pid <> pg_backend_pid()")[0][0]
        assert used <= (6 if server is servers[0] else 3)  # of the home and of a group
    for client in clients:
        client.close()


@pytest.mark.parametrize("mode", ["session", "statement"])
def test_other_pool_modes(servers, make_router, mode):
    router = make_router(servers, settings={"pool": {"mode": mode}})
    router.endpoint.run(TABLE, ROWS)
    with router.endpoint.connect() as connection:
        assert connection.execute("SELECT sum(v) FROM t").fetchone() == (5050,)
        if mode == "statement":
            with pytest.raises(psycopg.Error):
                connection.execute("BEGIN")
        else:
            connection.execute("CREATE TEMP TABLE own (a int)")
            assert connection.execute("SELECT count(*) FROM own").fetchone() == (0,)


NUMBERED = "CREATE TABLE n (id int GENERATED ALWAYS AS IDENTITY, v int)"


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_lastval_is_the_session_s_own(servers, make_router, mode):
    router = make_router(servers, settings={"pool": {"mode": mode, "size_per_group": 1}})
    router.endpoint.run(NUMBERED, *["INSERT INTO n (v) VALUES (0)"] * 7)
    session = Session(router.endpoint)

    def sqlstates(sql):
        return [execute(sql)[0].sqlstate for execute in (session.simple, session.extended)]

    assert sqlstates("SELECT lastval()") == ["55000", "55000"]
    assert sqlstates("SELECT currval('n_id_seq')") == ["55000", "55000"]
    session.simple("INSERT INTO n (v) VALUES (1)")
    assert session.simple("SELECT lastval()")[0].rows == [(b"8",)]
    assert session.extended("SELECT currval('n_id_seq')")[0].rows == [(b"8",)]
    for sql in ("EXPLAIN ANALYZE SELECT lastval()", "CREATE TABLE own AS SELECT lastval()"):
        assert sqlstates(sql) == ["0A000", "0A000"], sql
    session.close()


@pytest.mark.parametrize("pin", ["SELECT pg_advisory_lock(1)", "LISTEN c", "CREATE TEMP TABLE mine (a int)"])
def test_pinning_forgets_the_sequences_of_others(servers, make_router, pin):
    router = make_router(servers, settings={"pool": {"size_per_group": 1}})
    router.endpoint.run(NUMBERED, "INSERT INTO n (v) VALUES (0)")
    for protocol in ("simple", "extended"):
        session = Session(router.endpoint)
        assert getattr(session, protocol)(pin)[0].sqlstate == ""
        assert session.simple("SELECT lastval()")[0].sqlstate == "55000"
        session.close()


def test_the_salt_of_unknown_users_stays(servers, make_router):
    router = make_router(servers)

    def salts():
        return [RawClient(router.endpoint.change(user=name)).scram_salt() for name in ("nobody", "noone", "postgres")]

    first = salts()
    assert len(set(first)) == 3 and salts() == first
    router.stop()
    router.start()
    assert salts() == first


def test_trust_takes_no_backend_of_a_password_login(servers, make_router, tmp_path):
    for server in servers:
        server.endpoint.run(f"CREATE ROLE app LOGIN PASSWORD '{scram_verifier(PASSWORD)}'")
        server.change_hba(["host all app 127.0.0.1/32 trust", *server.hba])
    router = make_router(servers, settings={"": {"unix_socket_dir": str(tmp_path)}},
                         auth=[{"type": "local", "user": "app", "method": "trust"}, {"type": "host", "method": "scram-sha-256"}])
    # Nobody has logged in yet, and the groups trust no longer.
    for server in servers:
        server.change_hba(server.hba)
    with_password = router.endpoint.change(user="app")
    without = with_password.change(host=str(tmp_path), password="")
    assert with_password.run("SELECT current_user") == [("app",)]
    with pytest.raises(psycopg.OperationalError, match="asks for a password"):
        without.run("SELECT current_user")
    assert with_password.run("SELECT current_user") == [("app",)]


def test_no_user_starves_beside_a_busy_one(servers, make_router):
    for server in servers:
        server.endpoint.run(f"CREATE ROLE app LOGIN PASSWORD '{scram_verifier(PASSWORD)}'")
    router = make_router(servers, settings={"pool": {"size_per_group": 2, "wait_timeout_ms": 4000}})
    stop = threading.Event()

    def load():
        with router.endpoint.connect() as connection:
            while not stop.is_set():
                connection.execute("SELECT pg_advisory_xact_lock_shared(1), pg_sleep(0.002)")

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        busy = [threads.submit(load) for _ in range(8)]
        try:
            with router.endpoint.change(user="app").connect() as connection:
                for number in range(20):
                    assert connection.execute("SELECT pg_advisory_xact_lock_shared(2), %s", (number,)).fetchone()[1] == number
        finally:
            stop.set()
        for future in busy:
            future.result()


BUSY = {"pool": {"size_per_group": 1, "wait_timeout_ms": 600000}, "timeouts": {"shutdown_ms": 100}}


@pytest.fixture
def first_statement_waits(servers, make_router):
    """A router whose only backend of the home is taken, and a session whose first statement waits for it."""
    router = make_router(servers, settings=BUSY)
    router.endpoint.run("CREATE TABLE home (a int)")
    path = router.endpoint.change(options=(("options", "-csearch_path=public"),))
    path.connect().close()  # what a login must ask is known from now on
    holder = router.endpoint.connect()
    holder.execute("BEGIN")
    holder.execute("SELECT * FROM home")
    session = Session(path)
    session.connection.send_query(b"SELECT 1")
    wait_until(lambda: "waiting" in [row[3] for row in admin(router).run("SHOW CLIENTS")], "the statement to wait")
    yield router, session
    holder.close()


def test_a_first_statement_that_waits_can_be_cancelled(first_statement_waits):
    router, session = first_statement_waits
    session.cancel()
    assert session._answers(None)[0].sqlstate == "57014"
    session.close()


def test_a_first_statement_that_waits_ends_with_its_client(first_statement_waits):
    router, session = first_statement_waits
    session.close()
    wait_until(lambda: "waiting" not in [row[3] for row in admin(router).run("SHOW CLIENTS")], "the session to end")


def test_a_first_statement_that_waits_does_not_hold_up_the_end(first_statement_waits):
    router, session = first_statement_waits
    assert router.stop(signal.SIGTERM) == 0
    assert session._answers(None)[0].sqlstate in ("57014", "57P01")


def admin(router):
    return router.endpoint.change(database="pgmosaic")


def test_admin_database(servers, make_router):
    router = make_router(servers)
    router.endpoint.run(TABLE, ROWS)
    for what in ("POOLS", "CLIENTS", "SERVERS", "STATS", "CONFIG"):
        assert admin(router).run(f"SHOW {what}"), what
    admin(router).run("PAUSE")
    waiting = router.endpoint.connect()
    waiting.pgconn.send_query(b"SELECT count(*) FROM t")
    admin(router).run("RESUME")
    assert waiting.pgconn.get_result().get_value(0, 0) == b"100"
    waiting.close()


def test_metrics_and_health(servers, make_router):
    router = make_router(servers)
    router.endpoint.run(TABLE, ROWS)

    def page(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{router.http_port}{path}", timeout=10 * PATIENCE) as answer:
            return answer.status, answer.read().decode()

    assert page("/health")[0] == 200
    status, text = page("/metrics")
    samples = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert status == 200 and samples
    assert all(line.startswith("pgmosaic_") and len(line.rsplit(" ", 1)) == 2 for line in samples)
    with pytest.raises(urllib.error.HTTPError):
        page("/nothing")


def test_reload(servers, make_router):
    router = make_router(servers, settings={"log": {"level": "info"}})
    held = router.endpoint.connect()
    router.file.write_text(router.file.read_text().replace('level = "info"', 'level = "debug"'))
    router.reload()

    def changed():
        rows = admin(router).run("SHOW CONFIG")
        return any(row[0] == "log.level" and row[1] == "debug" for row in rows)

    wait_until(changed, "the new setting", timeout_s=10)
    assert held.execute("SELECT 1").fetchone() == (1,)
    router.file.write_text(router.file.read_text().replace('level = "debug"', 'level = "loud"'))
    router.reload()
    assert held.execute("SELECT 1").fetchone() == (1,)
    held.close()
    assert router.running()


def test_a_group_that_dies_and_comes_back(servers, make_router):
    router = make_router(servers)
    router.endpoint.run(TABLE, ROWS)
    client = router.endpoint.connect()
    client.execute("SELECT count(*) FROM t")
    os.kill(servers[1].pid, signal.SIGQUIT)
    servers[1].process.wait(timeout=30)
    with pytest.raises(psycopg.Error) as failed:
        client.execute("SELECT count(*) FROM t")
    assert (failed.value.sqlstate or "08006")[:2] in ("08", "57")
    servers[1].start()

    def answers():
        try:
            return router.endpoint.run("SELECT count(*) FROM t") == [(100,)]
        except psycopg.Error:
            return False

    wait_until(answers, "the router to find the group again", timeout_s=30)
    client.close()


def test_nothing_is_left_on_the_groups(servers, make_router):
    router = make_router(servers)
    router.endpoint.run(TABLE, ROWS)
    router.stop()
    for server in servers:
        server.wait_for_no_clients()
        assert server.endpoint.run("SELECT count(*) FROM pg_prepared_xacts") == [(0,)]


def test_activity_and_termination(servers, make_router):
    router = make_router(servers)
    router.endpoint.run(TABLE, ROWS)
    client = router.endpoint.change(options=(("application_name", "worker bee"),)).connect()
    client.pgconn.send_query(b"SELECT pg_sleep(30) FROM t WHERE id = 5")

    def seen():
        rows = router.endpoint.run("SELECT pid FROM pgmosaic.activity WHERE application_name = 'worker bee' "
                                   "AND query LIKE 'SELECT pg_sleep(30)%'")
        return rows and rows[0][0]

    pid = wait_until(seen, "the statement in pgmosaic.activity", timeout_s=10)
    assert router.endpoint.run(f"SELECT pg_cancel_backend({pid})") == [(True,)]
    result = client.pgconn.get_result()
    assert result.error_field(psycopg.pq.DiagnosticField.SQLSTATE) == b"57014"
    client.close()


def test_the_verifier_of_the_tests_is_a_verifier(make_server):
    server = make_server("verifier")
    server.endpoint.run(f"CREATE ROLE v LOGIN PASSWORD '{scram_verifier('pass')}'")
    assert server.endpoint.change(user="v", password="pass").run("SELECT 1") == [(1,)]
