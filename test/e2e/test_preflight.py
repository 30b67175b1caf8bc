"""What `pgmosaic router` checks before it serves attached groups, and what it says to change."""
import subprocess

import pytest

from harness.cluster import PASSWORD, program, scram_verifier
from harness.processes import PATIENCE

TCP = "host all all 127.0.0.1/32 scram-sha-256"
OWN = "local all all trust"


def refusal(router):
    """What a router that must not start says."""
    said = subprocess.run([program(), "router", "--config", router.file], capture_output=True, text=True,
                          timeout=60 * PATIENCE)
    assert said.returncode == 1, said.stdout + said.stderr
    return said.stderr


@pytest.fixture
def pair(make_server, make_router):
    """make(settings of the second server, …): a router over two servers, not started."""
    def make(settings=None, auth=(), router_settings=None, hba=None):
        servers = [make_server("good", hba=hba), make_server("other", settings=settings or {}, hba=hba)]
        return make_router(servers, auth=auth, settings=router_settings or {}, start=False)
    return make


def test_sound_servers_pass(pair):
    router = pair().start()
    assert router.endpoint.run("SELECT 1") == [(1,)]
    assert "preflight" not in router.log.read_text()


def test_all_findings_come_at_once(pair):
    said = refusal(pair({"max_prepared_transactions": 0, "timezone": "Asia/Tokyo", "standard_conforming_strings": "off",
                         "max_connections": 20}))
    assert "55000" not in said and "not fit" in said
    for part in ("max_prepared_transactions is 0", "ALTER SYSTEM SET max_prepared_transactions = 200;", "restart",
                 "time zone (TimeZone) is Asia/Tokyo", "standard_conforming_strings is off", "max_connections is 20"):
        assert part in said, said
    assert "group g2 (127.0.0.1 port" in said and "group g1" not in said


def test_too_few_prepared_transactions_for_the_pool(pair):
    said = refusal(pair({"max_prepared_transactions": 30}, router_settings={"pool": {"size_per_group": 40}}))
    assert "is 30; needed: at least 40" in said


def test_warnings_do_not_stop(pair):
    router = pair({"wal_level": "replica"}).start()
    assert router.endpoint.run("SELECT 1") == [(1,)]
    text = router.log.read_text()
    assert "preflight: group g2" in text and "wal_level is replica" in text and "ALTER SYSTEM SET wal_level = logical;" in text


def test_verifiers_that_differ_are_told(pair):
    router = pair()
    for number, server in enumerate(router.servers):
        server.endpoint.run(f"CREATE ROLE app LOGIN PASSWORD '{scram_verifier('same', salt=b'salt number %d' % number)}'")
    router.servers[0].endpoint.run("CREATE ROLE only_home LOGIN")
    router.start()
    text = router.log.read_text()
    assert 'role "app" has another password verifier than on g1' in text and 'role "only_home" is missing' in text


def test_databases_are_the_same_everywhere(pair):
    router = pair()
    router.servers[1].endpoint.run("CREATE DATABASE surplus")
    assert 'has database "surplus", which g1 does not have' in refusal(router)


def test_rights_of_the_internal_role(pair):
    router = pair()
    router.servers[1].endpoint.run("ALTER ROLE pgmosaic NOSUPERUSER")
    assert "ALTER ROLE \"pgmosaic\" SUPERUSER;" in refusal(router)
    router.servers[1].endpoint.run("ALTER ROLE pgmosaic PASSWORD 'another'")
    assert "internal.password" in refusal(router)
    router.servers[1].endpoint.run("DROP ROLE pgmosaic")
    said = refusal(router)
    assert "group g2" in said and "internal" in said  # PostgreSQL does not tell a missing role from a wrong password


def test_a_server_that_is_away_or_closed(pair):
    router = pair(hba=[OWN, "host all postgres 127.0.0.1/32 scram-sha-256"])
    said = refusal(router)
    assert said.count("pg_hba.conf") >= 2 and "group g1" in said and "group g2" in said
    router.servers[1].stop()
    assert "listen_addresses" in refusal(router)


def test_one_server_twice(make_server, make_router):
    server = make_server("single")
    router = make_router([server, server], start=False)
    before, second = router.file.read_text().rsplit('"127.0.0.1"', 1)
    router.file.write_text(before + '"localhost"' + second)
    said = refusal(router)
    assert "is the same server as group g1" in said


def test_databases_extensions_and_collations(pair):
    router = pair()
    first, second = (server.endpoint for server in router.servers)
    first.run("CREATE DATABASE only_here")
    first.run("CREATE DATABASE sorted TEMPLATE template0 LOCALE 'C'")
    second.run("CREATE DATABASE sorted TEMPLATE template0 LOCALE 'C.UTF-8'")
    for endpoint in (first, second):
        endpoint.run("CREATE DATABASE latin TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    first.run("CREATE EXTENSION pg_trgm")
    said = refusal(router)
    assert 'database "only_here" is missing' in said
    assert 'database "sorted" sorts by collation LC_COLLATE C.UTF-8' in said
    assert said.count('database "latin" has encoding SQL_ASCII') == 2
    assert "extensions are missing that g1 has: pg_trgm" in said


# --- trust ---

SCRAM = {"type": "host", "method": "scram-sha-256"}
TRUST_APP = {"type": "host", "user": "app", "method": "trust"}
TRUST_ALL = {"type": "host", "method": "trust"}


def make_app(router):
    for server in router.servers:
        server.endpoint.run(f"CREATE ROLE app LOGIN PASSWORD '{scram_verifier(PASSWORD)}'")


@pytest.mark.parametrize("rule", [TRUST_APP, TRUST_ALL, {**TRUST_ALL, "database": "postgres"}], ids=["user", "all", "database"])
def test_trust_where_the_groups_ask_for_a_password(pair, rule):
    router = pair(auth=[rule])
    make_app(router)
    said = refusal(router)
    assert "[[auth]] rule 1" in said and "method trust" in said and "scram-sha-256" in said
    assert "group g1" in said and "group g2" in said


@pytest.mark.parametrize("rule,line", [(TRUST_APP, "host all app 127.0.0.1/32 trust"),
                                       (TRUST_ALL, "host all all 127.0.0.1/32 trust"),
                                       (TRUST_ALL, "host all all samehost trust"),
                                       ({**TRUST_ALL, "database": "postgres"},
                                        "host postgres,pgmosaic_shards_postgres all 0.0.0.0/0 trust")])
def test_trust_where_the_groups_trust(pair, rule, line):
    router = pair(auth=[rule, SCRAM], hba=[OWN, "host all pgmosaic 127.0.0.1/32 scram-sha-256",
                                                      "host all postgres 10.0.0.0/8 md5", line, TCP])
    make_app(router)
    router.start()
    assert router.endpoint.change(user="app", password="").run("SELECT current_user") == [("app",)]


def test_trust_that_a_reload_brings_is_checked(pair):
    router = pair(auth=[SCRAM]).start()
    make_app(router)
    text = router.file.read_text()
    router.file.write_text(text.replace('"scram-sha-256"', '"trust"'))
    assert router.file.read_text() != text
    console = router.endpoint.change(database="pgmosaic")
    with pytest.raises(Exception, match="would trust"):
        console.run("RELOAD")
    with pytest.raises(Exception, match="password"):
        router.endpoint.change(user="app", password="wrong").run("SELECT 1")


def test_trust_for_the_admin_database_alone(pair):
    router = pair(auth=[{"type": "host", "database": "pgmosaic", "user": "operator", "method": "trust"}, SCRAM])
    router.start()
    console = router.endpoint.change(database="pgmosaic", user="operator", password="")
    assert console.run("SHOW VERSION")
    with pytest.raises(Exception, match="operator|password"):
        console.change(database="postgres").run("SELECT 1")
