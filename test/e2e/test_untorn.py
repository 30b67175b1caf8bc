"""Reads over several groups beside transactions over several groups: all of a transaction or nothing."""
import concurrent.futures
import contextlib
import threading

import psycopg
import pytest

from harness.bank import ACCOUNTS, BALANCE, READS, TABLE, Bank, wrong_sums
from harness.fixtures import SELF_CHECK
from harness.pair import databases
from harness.processes import wait_until
from harness.schemas import group_endpoints

pytestmark = pytest.mark.skipif(SELF_CHECK, reason="about several servers")


@pytest.fixture
def endpoint(router):
    with databases("untorn", router) as [made]:
        made.run(*TABLE)
        yield made


# COPY in a block gets few turns beside writers, and must have had enough of them in two minutes.
@pytest.mark.parametrize("how", [pytest.param(how, marks=pytest.mark.alone) if how == "copy in a block" else how for how in READS])
def test_sums(endpoint, how):
    assert wrong_sums(endpoint, how) == []


@pytest.mark.parametrize("how", ["select", "block", "one by one"])
def test_sums_are_wrong_without(how, make_server, make_router):
    """What the others test would be seen here."""
    router = make_router([make_server("g1"), make_server("g2")], settings={"sharding": {"untorn_reads": False}})
    router.endpoint.run(*TABLE)
    assert wrong_sums(router.endpoint, how) != []


@contextlib.contextmanager
def emptied(endpoint, table, fill):
    """TRUNCATE and `fill` in transactions, again and again."""
    over, problems = threading.Event(), []

    def empty():
        try:
            with endpoint.connect() as connection:
                while not over.is_set():
                    with connection.transaction():
                        connection.execute(f"TRUNCATE {table}")
                        connection.execute(fill)
        except psycopg.Error as error:
            problems.append(repr(error))

    thread = threading.Thread(target=empty)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert problems == []


def test_a_table_is_never_seen_empty(endpoint):
    """TRUNCATE is seen by snapshots from before it: readers wait for its end before they take theirs."""
    fill = "INSERT INTO account VALUES " + ", ".join(f"({number}, {BALANCE})" for number in range(ACCOUNTS))
    with emptied(endpoint, "account", fill), endpoint.connect() as reader:
        for _ in range(60):
            assert READS["select"](reader) == (ACCOUNTS * BALANCE, ACCOUNTS)


@pytest.mark.parametrize("begin", ["", "BEGIN"])
def test_a_transaction_that_begins_beside_a_read(endpoint, begin):
    """A read that has asked nothing, since nothing was under way: of two groups one answers, the other one waits for a lock, and in
    between a transaction over both commits."""
    endpoint.run("CREATE TABLE one (n int) WITH (table_type = 'reference')", "INSERT INTO one VALUES (1)")
    groups = [group for name, group in sorted(group_endpoints(endpoint).items()) if name != "home"]
    here, there = (group.run("SELECT min(id) FROM account")[0][0] for group in groups[:2])
    total = [(ACCOUNTS * BALANCE,)]
    with groups[1].connect(autocommit=False) as blocker, endpoint.connect() as reader, endpoint.connect(autocommit=False) as writer, \
            concurrent.futures.ThreadPoolExecutor(1) as beside:
        blocker.execute("LOCK TABLE one IN ACCESS EXCLUSIVE MODE")
        reader.execute(begin)
        read = beside.submit(lambda: reader.execute("SELECT sum(balance * n) FROM account CROSS JOIN one").fetchall())
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'one'::regclass"
        wait_until(lambda: groups[1].run(waiting) == [(1,)], "the read to wait on one group")
        for account, amount in ((here, -7), (there, 7)):
            writer.execute("UPDATE account SET balance = balance + %s WHERE id = %s", (amount, account))
        writer.commit()
        assert not read.done()
        blocker.rollback()
        assert read.result() == total


def test_tables_that_are_emptied_beside_large_reads(endpoint):
    """The one has a lock on a group where the other one waits, and the other way round; nobody is told of a deadlock."""
    fill = "INSERT INTO wide SELECT g, repeat('x', 5000) FROM generate_series(1, 2000) g"
    endpoint.run("CREATE TABLE wide (id int PRIMARY KEY, filler text) SHARD BY (id)", fill)
    with emptied(endpoint, "wide", fill), endpoint.connect() as reader:
        for _ in range(20):
            assert len(reader.execute("SELECT id, filler FROM wide").fetchall()) == 2000


def test_rows_of_the_commit_log_go(endpoint):
    assert wrong_sums(endpoint, "select", 20) == []
    for group in group_endpoints(endpoint).values():
        wait_until(lambda group=group: group.run("SELECT count(*) FROM pg_catalog.pgmosaic_commit_log") == [(0,)],
                   "the commit log to be trimmed")
        # The home has had no rows: it may just have heard of transactions that were under way.
        wait_until(lambda group=group: group.run("SELECT kept FROM pg_catalog.pgmosaic_epochs") == [([],)],
                   "all labels to go")
        [(epoch, trimmed)] = group.run("SELECT epoch, trimmed FROM pg_catalog.pgmosaic_epochs")
        assert epoch >= trimmed > 0
    assert wrong_sums(endpoint, "select", 20) == []


def test_users_write_no_rows(endpoint):
    """One that no other group has would tear all reads."""
    for sql in ("SELECT pg_catalog.pgmosaic_log_commit('pgmosaic_x_1_x_5', '{1,2,3,4}', 'x', 1, 'x')",
                "INSERT INTO pg_catalog.pgmosaic_commit_log (gid, participants) VALUES ('x', '{1,2}')",
                "SELECT secret FROM pg_catalog.pgmosaic_secret", "DELETE FROM pg_catalog.pgmosaic_epochs"):
        endpoint.run("CREATE ROLE untorn_mallory")
        with endpoint.connect(autocommit=True) as connection, contextlib.ExitStack() as last:
            last.callback(lambda: endpoint.run("DROP ROLE untorn_mallory"))
            connection.execute("SET ROLE untorn_mallory")
            with pytest.raises(psycopg.Error) as refused:
                connection.execute(sql)
            assert refused.value.sqlstate in ("42501", "0A000"), refused.value


def test_rights_on_columns_suffice(endpoint):
    endpoint.run("CREATE ROLE untorn_alice", "GRANT SELECT (balance) ON account TO untorn_alice")
    with endpoint.connect(autocommit=True) as connection:
        connection.execute("SET ROLE untorn_alice")
        assert connection.execute("SELECT sum(balance) FROM account").fetchall() == [(ACCOUNTS * BALANCE,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="table account"):
            connection.execute("SELECT sum(id) FROM account")
    endpoint.run("REVOKE ALL ON account FROM untorn_alice", "DROP ROLE untorn_alice")


@pytest.mark.parametrize("reach", ["SELECT balance FROM account WHERE id = {other}", "SELECT count(*) FROM account",
                                   "UPDATE account SET balance = 0", "DECLARE c CURSOR FOR SELECT * FROM account WHERE id = {other}",
                                   "INSERT INTO account VALUES (1001, 1), (1002, 1), (1003, 1), (1004, 1), (1005, 1)",
                                   "UPDATE account SET balance = 0 WHERE id = {other}"])
@pytest.mark.parametrize("prepare", [False, True])
def test_serializable_is_of_one_group(endpoint, reach, prepare):
    groups = {number: endpoint.run(f"EXPLAIN SELECT * FROM account WHERE id = {number}")[0][0] for number in range(2, 40)}
    first = groups.pop(2)
    same = next(number for number, group in groups.items() if group == first)
    other = next(number for number, group in groups.items() if group != first)
    with endpoint.connect(autocommit=True) as connection:
        for begin, default in (("BEGIN ISOLATION LEVEL SERIALIZABLE", "read committed"), ("BEGIN", "serializable")):
            connection.execute(f"SET default_transaction_isolation = '{default}'")
            connection.execute(begin)
            for number in (2, same):
                assert connection.execute(f"SELECT balance FROM account WHERE id = {number}", prepare=prepare).fetchone() == (BALANCE,)
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="SERIALIZABLE") as refused:
                connection.execute(reach.format(other=other), prepare=prepare)
            assert "REPEATABLE READ" in refused.value.diag.message_hint
            connection.execute("ROLLBACK")
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        assert connection.execute("SELECT count(*) FROM account").fetchone() == (ACCOUNTS,)
        connection.execute("COMMIT")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="SERIALIZABLE"):
            connection.execute("SELECT count(*) FROM account", prepare=prepare)
        for number in (2, other):  # one statement, one group
            assert connection.execute(f"SELECT balance FROM account WHERE id = {number}", prepare=prepare).fetchone() == (BALANCE,)
        connection.execute("CREATE TABLE more (id int PRIMARY KEY) SHARD BY (id)")  # whose locks order it
        connection.execute("DROP TABLE more")


@pytest.mark.parametrize("level", ["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET transaction_isolation = serializable",
                                   "SET LOCAL transaction_isolation TO E'serializable'"])
def test_serializable_by_other_ways(endpoint, level):
    with endpoint.connect(autocommit=True) as connection:
        connection.execute("BEGIN")
        connection.execute(level)
        assert connection.execute("SHOW transaction_isolation").fetchone() == ("serializable",)
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="SERIALIZABLE"):
            connection.execute("SELECT count(*) FROM account")
        connection.execute("ROLLBACK")
        connection.execute("SET default_transaction_isolation = 'serializable'")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="SERIALIZABLE"):
            connection.execute("EXPLAIN ANALYZE SELECT count(*) FROM account")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="SERIALIZABLE"), connection.pipeline():
            for number in range(8):
                connection.execute("SELECT balance FROM account WHERE id = %s", (number,))


def test_snapshots_of_a_repeatable_read_block(endpoint):
    """They are of its first statement, on groups that it reaches later, too; LOCK TABLE and SET come before."""
    with endpoint.connect(autocommit=True) as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SAVEPOINT a")
        connection.execute("LOCK TABLE account IN ROW SHARE MODE")
        connection.execute("SET LOCAL work_mem = '1MB'")
        assert connection.execute("SHOW transaction_isolation").fetchone() == ("repeatable read",)
        endpoint.run("UPDATE account SET balance = 1 WHERE id < 32")
        assert connection.execute("SELECT balance FROM account WHERE id = 1").fetchone() == (1,)
        endpoint.run("UPDATE account SET balance = 2")
        assert connection.execute("SELECT sum(balance), count(*) FROM account").fetchone() == (32 + 32 * BALANCE, ACCOUNTS)
        assert [connection.execute("SELECT balance FROM account WHERE id = %s", (number,)).fetchone() for number in range(64)] == (
            [(1,)] * 32 + [(BALANCE,)] * 32)
        with pytest.raises(psycopg.errors.SerializationFailure):
            connection.execute("UPDATE account SET balance = 3 WHERE id = 40")
        connection.execute("ROLLBACK TO a")
        assert connection.execute("SELECT balance FROM account WHERE id = 40").fetchone() == (BALANCE,)
        connection.execute("COMMIT")
        assert connection.execute("SELECT sum(balance) FROM account").fetchone() == (2 * ACCOUNTS,)


@pytest.mark.parametrize("before", ["SAVEPOINT a", "SHOW work_mem", "SET LOCAL work_mem = '1MB'", "LISTEN untorn"])
@pytest.mark.parametrize("prepare", [False, True])
def test_the_first_statement_is_a_write(endpoint, before, prepare):
    """Nothing that it did may be lost where snapshots have to be taken again."""
    with endpoint.connect(autocommit=True) as connection:
        update = "UPDATE account SET balance = balance + %s WHERE id IN (1, 2, 3, 4, 5, 6)"
        for _ in range(6):  # psycopg prepares it
            connection.execute(update, (0,), prepare=prepare)
        with Bank(endpoint) as bank:
            for number in range(30):
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                connection.execute(before)
                try:
                    connection.execute(update, (1000,), prepare=prepare)
                    connection.execute("SELECT sum(balance) FROM account", prepare=prepare)
                    connection.execute("COMMIT")
                except (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
                    connection.execute("ROLLBACK")
                    continue
                found = connection.execute("SELECT sum(balance) FROM account").fetchone()
                assert found == (ACCOUNTS * BALANCE + 6000,), number
                taken_back = False
                while not taken_back:
                    with contextlib.suppress(psycopg.errors.DeadlockDetected):  # it locks six rows in any order
                        connection.execute(update, (-1000,), prepare=prepare)
                        taken_back = True
        assert bank.problems == []
        if before.startswith("LISTEN"):
            assert connection.execute("SELECT * FROM pg_listening_channels()").fetchall() == [("untorn",)]


@pytest.mark.parametrize("statement", ["SELECT 1 / (balance - balance) FROM account",
                                       "CREATE TABLE made AS SELECT 1 / (balance - balance) AS x FROM account"])
def test_the_error_of_a_block_is_the_statements(endpoint, statement):
    """Also where its snapshots did not agree: there is no other attempt in a block that has failed."""
    with Bank(endpoint) as bank, endpoint.connect(autocommit=True) as connection:
        while bank.done < 300 and not bank.problems:
            connection.execute("BEGIN")
            with pytest.raises(psycopg.errors.DivisionByZero):
                connection.execute(statement, prepare=True)
            connection.execute("ROLLBACK")
    assert bank.problems == []


def test_a_block_sees_its_own_changes(endpoint):
    for level in ("READ COMMITTED", "REPEATABLE READ"):
        with endpoint.connect(autocommit=True) as connection:
            connection.execute(f"BEGIN ISOLATION LEVEL {level}")
            connection.execute("UPDATE account SET balance = balance + 1")
            connection.execute("SAVEPOINT a")
            connection.execute("DELETE FROM account WHERE id < 10")
            assert connection.execute("SELECT sum(balance) FROM account").fetchone() == ((ACCOUNTS - 10) * (BALANCE + 1),)
            connection.execute("ROLLBACK TO a")
            assert connection.execute("SELECT sum(balance) FROM account", prepare=True).fetchone() == (ACCOUNTS * (BALANCE + 1),)
            with pytest.raises(psycopg.errors.DivisionByZero):
                connection.execute("SELECT 1 / (balance - balance) FROM account")
            connection.execute("ROLLBACK TO a")
            assert connection.execute("SELECT count(*) FROM account WHERE balance = %s", (BALANCE + 1,)).fetchone() == (ACCOUNTS,)
            connection.execute("ROLLBACK")
