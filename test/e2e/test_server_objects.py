"""What belongs to servers and to databases as a whole: tablespaces, forced drops, owners of databases."""
import psycopg
import pytest

from harness.dialect import strip_dialect
from harness.fixtures import SELF_CHECK

NOT_ALONE = pytest.mark.skipif(SELF_CHECK, reason="of several groups")


def run(side, *statements):
    return side.run(*(strip_dialect(sql) if SELF_CHECK else sql for sql in statements))


def on_groups(router, sql):
    """The statement's answer from each server that holds a group."""
    ports = sorted({row[0] for row in router.run("SELECT port FROM pgmosaic.groups")})
    return [router.change(port=port).run(sql) for port in ports]


IN_PLACE = "SET allow_in_place_tablespaces = on"


def test_a_tablespace_is_on_every_server(router):
    run(router, IN_PLACE, "CREATE TABLESPACE fast LOCATION ''", "GRANT ALL ON TABLESPACE fast TO PUBLIC",
        "GRANT SET ON PARAMETER work_mem TO PUBLIC", "REVOKE SET ON PARAMETER work_mem FROM PUBLIC")
    run(router, "CREATE TABLE spaced (id int PRIMARY KEY, v int) TABLESPACE fast SHARD BY (id)",
        "INSERT INTO spaced VALUES (1, 1), (2, 2), (3, 3)", "CREATE INDEX spaced_v ON spaced (v) TABLESPACE fast")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        run(router, "DROP TABLESPACE fast")
    run(router, "ALTER TABLESPACE fast SET (random_page_cost = 1)", "ALTER TABLESPACE fast RENAME TO faster")
    assert run(router, "SELECT spcname, spcoptions FROM pg_tablespace WHERE spcname LIKE 'fast%'") == [
        ("faster", ["random_page_cost=1"])]
    assert run(router, "SELECT sum(v) FROM spaced") == [(6,)]
    if not SELF_CHECK:
        there = on_groups(router, "SELECT spcname, spcoptions FROM pg_tablespace WHERE spcname LIKE 'fast%'")
        assert len(there) > 1 and set(map(str, there)) == {"[('faster', ['random_page_cost=1'])]"}
    run(router, "DROP TABLE spaced", "DROP TABLESPACE faster")
    with pytest.raises(psycopg.errors.UndefinedObject):
        run(router, "DROP TABLESPACE faster")
    run(router, "DROP TABLESPACE IF EXISTS faster")


@NOT_ALONE
def test_a_tablespace_that_one_server_cannot_make_is_nowhere(router):
    ports = dict(router.run("SELECT group_name, port FROM pgmosaic.groups"))
    third = router.change(port=ports["g3"])
    third.run(IN_PLACE, "CREATE TABLESPACE taken LOCATION ''")
    with pytest.raises(psycopg.errors.DuplicateObject):
        router.run(IN_PLACE, "CREATE TABLESPACE taken LOCATION ''")
    names = on_groups(router, "SELECT count(*) FROM pg_tablespace WHERE spcname = 'taken'")
    assert sum(rows[0][0] for rows in names) == 1
    router.run("DROP TABLESPACE taken")  # as what an interrupted one has left
    assert sum(rows[0][0] for rows in on_groups(router, "SELECT count(*) FROM pg_tablespace WHERE spcname = 'taken'")) == 0


@NOT_ALONE
def test_servers_on_one_machine_cannot_share_a_directory(router, tmp_path):
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    with pytest.raises((psycopg.errors.ObjectInUse, psycopg.errors.InsufficientPrivilege)):
        router.run(f"CREATE TABLESPACE shared LOCATION '{tmp_path}'")
    assert sum(rows[0][0] for rows in on_groups(router, "SELECT count(*) FROM pg_tablespace WHERE spcname = 'shared'")) == 0


def test_tablespaces_not_in_a_transaction(router):
    with router.connect(autocommit=False) as connection:
        connection.execute("SELECT 1")
        with pytest.raises(psycopg.errors.ActiveSqlTransaction):
            connection.execute("CREATE TABLESPACE inside LOCATION ''")


def test_a_forced_drop_ends_sessions(router):
    router.run("CREATE DATABASE forced")
    forced = router.change(database="forced")
    run(forced, "CREATE TABLE t (id int PRIMARY KEY) SHARD BY (id)", "INSERT INTO t VALUES (1), (2), (3)")
    with forced.connect(autocommit=False) as connection:
        connection.execute("SELECT count(*) FROM t")
        router.run("DROP DATABASE forced WITH (FORCE)")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.errors.InvalidCatalogName):
        router.run("DROP DATABASE forced (FORCE)")
    router.run("DROP DATABASE IF EXISTS forced (FORCE)")


def test_only_the_owner_ends_sessions(router):
    router.run("CREATE DATABASE kept", "CREATE ROLE intruder LOGIN PASSWORD 'secret'")
    try:
        with router.change(database="kept").connect() as connection:
            connection.execute("SELECT 1")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                router.change(user="intruder", password="secret").run("DROP DATABASE kept WITH (FORCE)")
            connection.execute("SELECT 1")
    finally:
        router.run("DROP DATABASE kept WITH (FORCE)", "DROP ROLE intruder")


def test_database_forms(router):
    router.run("CREATE DATABASE formed", "CREATE ROLE holder", "CREATE ROLE heir")
    try:
        router.run("ALTER DATABASE formed CONNECTION LIMIT 7", "ALTER DATABASE formed IS_TEMPLATE true",
                   "ALTER DATABASE formed REFRESH COLLATION VERSION", "ALTER DATABASE formed OWNER TO holder")
        question = "SELECT datconnlimit, datistemplate, datdba::regrole::text FROM pg_database WHERE datname LIKE '%formed'"
        assert router.run(question) == [(7, True, "holder")]
        if not SELF_CHECK:
            assert all(set(rows) == {(7, True, "holder")} for rows in on_groups(router, question))
        with pytest.raises(psycopg.errors.WrongObjectType):
            router.run("DROP DATABASE formed (FORCE)")
        router.run("ALTER DATABASE formed IS_TEMPLATE false")
        # Of another database: shared by both of those on the home's server.
        router.run("CREATE TABLE holders (id int)", "ALTER TABLE holders OWNER TO holder", "REASSIGN OWNED BY holder TO heir")
        assert router.run(question) == [(7, False, "heir")]
        assert router.run("SELECT relowner::regrole::text FROM pg_class WHERE relname = 'holders'") == [("heir",)]
        router.run("DROP TABLE holders")
        if not SELF_CHECK:
            for form in ("ALLOW_CONNECTIONS false", "SET TABLESPACE pg_default"):
                with pytest.raises(psycopg.errors.FeatureNotSupported):
                    router.run(f"ALTER DATABASE formed {form}")
    finally:
        router.run("ALTER DATABASE formed IS_TEMPLATE false", "DROP DATABASE formed", "DROP ROLE holder, heir")


def test_reindex_of_a_database(router):
    router.run("CREATE DATABASE rebuilt")
    rebuilt = router.change(database="rebuilt")
    run(rebuilt, "CREATE TABLE t (id int PRIMARY KEY) SHARD BY (id)", "INSERT INTO t VALUES (1), (2), (3)",
        "REINDEX DATABASE rebuilt", "REINDEX (VERBOSE) SYSTEM rebuilt")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        rebuilt.run("REINDEX DATABASE postgres")
    assert rebuilt.run("SELECT count(*) FROM t") == [(3,)]
    router.run("DROP DATABASE rebuilt")
