"""One cluster serves several databases: made and dropped through the router, on every group."""
import psycopg
import pytest

from harness.dialect import strip_dialect
from harness.fixtures import SELF_CHECK


def make_table(side):
    sql = "CREATE TABLE t (id int PRIMARY KEY, v text) SHARD BY (id)"
    side.run(strip_dialect(sql) if SELF_CHECK else sql,
             "INSERT INTO t VALUES " + ", ".join(f"({number}, 'v')" for number in range(20)))


def test_each_database_has_its_own_tables(router):
    router.run("CREATE DATABASE one", "CREATE DATABASE two")
    one, two = router.change(database="one"), router.change(database="two")
    make_table(one)
    with pytest.raises(psycopg.errors.UndefinedTable):
        two.run("SELECT * FROM t")
    make_table(two)
    two.run("DELETE FROM t WHERE id < 15")
    assert one.run("SELECT count(*) FROM t") == [(20,)]
    assert two.run("SELECT count(*) FROM t") == [(5,)]
    for name in ("one", "two"):  # idle pooled connections do not stand in the way
        router.run(f"DROP DATABASE {name}")
    with pytest.raises(psycopg.OperationalError):
        one.run("SELECT 1")


def test_a_dropped_database_can_be_made_again(router):
    for _ in range(3):
        router.run("CREATE DATABASE again")
        make_table(router.change(database="again"))
        router.run("DROP DATABASE again")


def test_a_database_in_use_stays(router):
    router.run("CREATE DATABASE busy")
    busy = router.change(database="busy")
    make_table(busy)
    with busy.connect(autocommit=False) as connection:
        connection.execute("SELECT count(*) FROM t")
        with pytest.raises(psycopg.errors.ObjectInUse):
            router.run("DROP DATABASE busy")
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (20,)
    assert busy.run("SELECT count(*) FROM t") == [(20,)]
    router.drop_database("busy")


def test_a_renamed_database_keeps_its_tables(router):
    router.run("CREATE DATABASE before")
    before, after = router.change(database="before"), router.change(database="Behind it")
    make_table(before)
    before.run("ALTER DATABASE before SET work_mem = '7MB'")
    router.run('ALTER DATABASE before RENAME TO "Behind it"')
    try:
        with pytest.raises(psycopg.OperationalError, match='database "before" does not exist'):
            before.run("SELECT 1")
        assert after.run("SELECT count(*), current_setting('work_mem') FROM t") == [(20, "7MB")]
        after.run("INSERT INTO t VALUES (100, 'x'), (101, 'y'), (102, 'z')", "CREATE INDEX ON t (v)", "ALTER TABLE t ADD n int")
        router.run("CREATE DATABASE before")
        make_table(before)
        assert after.run("SELECT count(*), sum(n) FROM t") == [(23, None)]
        router.run("DROP DATABASE before", 'ALTER DATABASE "Behind it" RENAME TO before')
        assert before.run("SELECT count(*) FROM t WHERE id >= 100") == [(3,)]
    finally:
        router.run('DROP DATABASE IF EXISTS "Behind it"', "DROP DATABASE IF EXISTS before")


def test_errors_of_renames(router, oracle):
    said = []
    for side in (router, oracle):
        side.run("CREATE DATABASE used", "CREATE DATABASE other")
        try:
            said.append([])
            with side.change(database="used").connect() as user, side.connect() as connection:
                user.execute("SELECT 1")
                for sql in ("ALTER DATABASE used RENAME TO free", "ALTER DATABASE never_made RENAME TO free",
                            "ALTER DATABASE other RENAME TO used", "ALTER DATABASE other RENAME TO other",
                            f"ALTER DATABASE {side.database} RENAME TO free"):
                    with pytest.raises(psycopg.Error) as error:
                        connection.execute(sql)
                    said[-1].append((error.value.sqlstate, error.value.diag.message_primary, error.value.diag.message_detail))
                assert user.execute("SELECT 2").fetchone() == (2,)
                connection.execute("DROP ROLE IF EXISTS renamer")
                connection.execute("CREATE ROLE renamer")
                connection.execute("SET ROLE renamer")
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner of database other"):
                    connection.execute("ALTER DATABASE other RENAME TO free")
                connection.execute("RESET ROLE")
                connection.execute("DROP ROLE renamer")
        finally:
            side.run("DROP DATABASE used", "DROP DATABASE other")
    assert said[0] == said[1]


@pytest.mark.parametrize("sql,error", [
    ("CREATE DATABASE postgres", psycopg.errors.DuplicateDatabase),
    ("DROP DATABASE never_made", psycopg.errors.InvalidCatalogName),
    ("DROP DATABASE postgres", psycopg.errors.ObjectInUse),
])
def test_errors(router, sql, error):
    with pytest.raises(error):
        router.run(sql)
    router.run("DROP DATABASE IF EXISTS never_made")


def test_not_in_a_transaction(router):
    with router.connect(autocommit=False) as connection:
        connection.execute("SELECT 1")
        with pytest.raises(psycopg.errors.ActiveSqlTransaction):
            connection.execute("CREATE DATABASE inside")


@pytest.mark.skipif(SELF_CHECK, reason="of several groups")
def test_what_an_interruption_left_half_done_can_be_repeated(router):
    ports = dict(router.run("SELECT group_name, port FROM pgmosaic.groups"))
    third, second = router.change(port=ports["g3"]), router.change(port=ports["g2"])
    with pytest.raises(psycopg.errors.ReservedName):
        router.run("CREATE DATABASE pgmosaic")
    third.run("CREATE DATABASE half")
    with pytest.raises(psycopg.errors.DuplicateDatabase):
        router.run("CREATE DATABASE half")
    router.run("DROP DATABASE IF EXISTS half", "CREATE DATABASE half")
    second.run("DROP DATABASE half")
    router.run("DROP DATABASE half", "CREATE DATABASE half", "DROP DATABASE half")
