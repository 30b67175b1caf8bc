"""md5 passwords: kept as PostgreSQL keeps them, the same on every server, and good for a login where a rule allows it."""
import hashlib
import subprocess

import psycopg
import pytest

from harness.processes import postgres_program

HBA = ["local all all trust", "host all all 127.0.0.1/32 md5", "host replication all 127.0.0.1/32 scram-sha-256"]
KEPT = "SELECT rolpassword FROM pg_authid WHERE rolname = '{}'"


def md5(password, role):
    return "md5" + hashlib.md5((password + role).encode()).hexdigest()


@pytest.fixture
def servers(make_server):
    return [make_server(f"md5-{number}", hba=HBA) for number in range(2)]


@pytest.fixture
def router(servers, make_router):
    return make_router(servers, auth=[{"type": "host", "user": "strict", "method": "scram-sha-256"},
                                      {"type": "host", "method": "md5"}]).endpoint


def login(router, user, password):
    return router.change(user=user, password=password)


def test_what_is_kept_is_postgresqls(router, servers, oracle):
    statements = ["SET password_encryption = 'md5'", "CREATE ROLE kept_clear LOGIN PASSWORD 'secret'", "CREATE ROLE kept_other LOGIN",
                  "ALTER ROLE kept_other PASSWORD 'größer'", f"CREATE ROLE kept_given PASSWORD '{md5('a', 'b')}'",
                  "DO $$ BEGIN EXECUTE 'CREATE ROLE kept_in_block PASSWORD ''secret'''; END $$",
                  "SET ROLE kept_other", "ALTER USER CURRENT_USER PASSWORD 'mine'",
                  "RESET ROLE", "SET password_encryption = 'scram-sha-256'",
                  f"CREATE ROLE kept_too_short PASSWORD '{md5('a', 'b')[:-1]}'",
                  "CREATE ROLE kept_broken PASSWORD 'SCRAM-SHA-256$00000:x$y:z'"]
    names = ["kept_clear", "kept_other", "kept_given", "kept_in_block"]
    router.run(*statements)
    oracle.run(*statements)
    for name in names:
        kept = [side.run(KEPT.format(name)) for side in (router, oracle, *(server.endpoint for server in servers))]
        assert kept[0][0][0].startswith("md5") and all(rows == kept[0] for rows in kept)
    for name in ("kept_too_short", "kept_broken"):
        kept = [side.run(KEPT.format(name)) for side in (router, *(server.endpoint for server in servers))]
        assert kept[0][0][0].startswith("SCRAM-SHA-256$4096:") and all(rows == kept[0] for rows in kept)
    oracle.run(*(f"DROP ROLE {name}" for name in (*names, "kept_too_short", "kept_broken")))


def test_login(router, servers):
    router.run("CREATE TABLE t (id int PRIMARY KEY) SHARD BY (id)", "INSERT INTO t SELECT generate_series(1, 20)",
               "SET password_encryption = 'md5'", "CREATE ROLE old LOGIN PASSWORD 'secret'", "GRANT SELECT ON t TO old",
               "CREATE ROLE strict LOGIN PASSWORD 'secret'", "CREATE ROLE nobody PASSWORD 'secret'",
               "CREATE ROLE late LOGIN PASSWORD 'secret' VALID UNTIL '2000-01-01'")
    assert login(router, "old", "secret").run("SELECT count(*), current_user FROM t") == [(20, "old")]
    said = subprocess.run([postgres_program("psql"), "-XAtc", "SELECT count(*) FROM t",
                           login(router, "old", "secret").url()], capture_output=True, text=True, check=True).stdout
    assert said == "20\n"
    # A SCRAM password is good under the same rule; the internal role and its kin have one.
    assert router.run("SELECT count(*) FROM t") == [(20,)]
    for user, password in (("old", "wrong"), ("old", md5("secret", "old")), ("strict", "secret"), ("late", "secret"),
                           ("missing", "secret")):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            login(router, user, password).run("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="not permitted to log in"):
        login(router, "nobody", "secret").run("SELECT 1")
    for server in servers:
        assert login(server.endpoint, "old", "secret").run("SELECT 1") == [(1,)]


def test_an_open_session_goes_on(router):
    router.run("CREATE TABLE t (id int PRIMARY KEY) SHARD BY (id)", "SET password_encryption = 'md5'",
               "CREATE ROLE changing LOGIN PASSWORD 'first'", "GRANT ALL ON t TO changing")
    with login(router, "changing", "first").connect() as connection:
        connection.execute("SELECT count(*) FROM t")
        for change in ("SET password_encryption = 'md5'; ALTER ROLE changing PASSWORD 'second'",
                       "SET password_encryption = 'scram-sha-256'; ALTER ROLE changing PASSWORD 'third'",
                       f"ALTER ROLE changing PASSWORD '{md5('fourth', 'changing')}'"):
            router.run(*change.split("; "))
            assert connection.execute("SELECT count(*) FROM t").fetchall() == [(0,)]
    assert login(router, "changing", "fourth").run("SELECT count(*) FROM t") == [(0,)]


def test_groups_that_take_none_say_so(router, servers):
    router.run("SET password_encryption = 'md5'", "CREATE ROLE old LOGIN PASSWORD 'secret'")
    for server in servers:
        server.change_hba([line.replace("md5", "scram-sha-256") for line in HBA])
    with pytest.raises(psycopg.OperationalError, match="pg_hba.conf"):
        login(router, "old", "secret").run("SELECT 1")
