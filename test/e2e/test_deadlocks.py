"""Transactions that wait for each other over several groups: one of them ends with 40P01, as on one PostgreSQL."""
import contextlib
import random
import threading
import time

import psycopg
import pytest

from harness.bank import ACCOUNTS, BALANCE, TABLE, Bank
from harness.fixtures import SELF_CHECK
from harness.pair import databases
from harness.processes import PATIENCE, wait_until
from harness.schemas import group_endpoints

pytestmark = pytest.mark.skipif(SELF_CHECK, reason="about several servers")
TAKE = "UPDATE account SET balance = balance - 1 WHERE id = %s"
GIVE = "UPDATE account SET balance = balance + 1 WHERE id = %s"


@pytest.fixture
def endpoint(router):
    with databases("deadlock", router) as [made]:
        made.run(*TABLE)
        yield made


@pytest.fixture
def accounts(endpoint):
    """One account of each group. The first one shares its server with the home."""
    groups = group_endpoints(endpoint)
    groups.pop("home")
    return [group.run("SELECT min(id) FROM account")[0][0] for _, group in sorted(groups.items())]


class Waiter:
    """A statement on a thread of its own."""

    def __init__(self, connection, *statement, **options):
        self.error, self.began, self.ended = None, time.monotonic(), None
        self.thread = threading.Thread(target=self.run, args=(connection, statement, options), daemon=True)
        self.connection = connection
        self.thread.start()

    def run(self, connection, statement, options):
        try:
            connection.execute(*statement, **options)
        except psycopg.Error as error:
            self.error = error
        self.ended = time.monotonic()

    def join(self):
        """The error, once the statement has ended."""
        self.thread.join(20 * PATIENCE)
        if self.thread.is_alive():
            self.connection.cancel()
            self.thread.join()
            raise AssertionError("it waited for ever")
        return self.error


def blocked(endpoint):
    """How many backends of the groups wait for locks."""
    groups = group_endpoints(endpoint)
    groups.pop("home")
    return sum(group.run("SELECT count(*) FROM pg_locks WHERE NOT granted")[0][0] for group in groups.values())


@contextlib.contextmanager
def blocks(endpoint, number, **options):
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(endpoint.connect(**options)) for _ in range(number)]
        for connection in found:
            connection.execute("BEGIN")
        yield found


@pytest.mark.parametrize("cursor", [psycopg.Cursor, psycopg.ClientCursor])
def test_crosswise(endpoint, accounts, cursor):
    with blocks(endpoint, 2, cursor_factory=cursor) as (old, young):
        old.execute(TAKE, (accounts[1],))
        young.execute(TAKE, (accounts[2],))
        first, second = Waiter(old, GIVE, (accounts[2],)), Waiter(young, GIVE, (accounts[1],))
        error = second.join()
        assert isinstance(error, psycopg.errors.DeadlockDetected) and error.diag.message_primary == "deadlock detected"
        assert first.join() is None
        for connection, account in ((old, accounts[2]), (young, accounts[1])):
            assert f"Process {connection.info.backend_pid} waits for ShareLock on transaction " in error.diag.message_detail
            assert f"\nProcess {connection.info.backend_pid}: UPDATE account SET balance = balance + 1" in error.diag.message_detail
        assert "account_" not in error.diag.context
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            young.execute("SELECT 1")
        young.execute("ROLLBACK")
        old.execute("COMMIT")
        assert young.execute("SELECT sum(balance) FROM account").fetchone() == (ACCOUNTS * BALANCE,)
        assert old.execute("SELECT balance FROM account WHERE id = %s", (accounts[1],)).fetchone() == (BALANCE - 1,)


def test_as_postgres(oracle):
    """What the others expect is what one PostgreSQL does."""
    with databases("deadlock", oracle) as [made]:
        made.run("CREATE TABLE account (id int PRIMARY KEY, balance int)", "INSERT INTO account VALUES (1, 1), (2, 1)")
        with blocks(made, 2) as (old, young):
            old.execute(TAKE, (1,))
            young.execute(TAKE, (2,))
            waiters = Waiter(old, GIVE, (2,)), Waiter(young, GIVE, (1,))
            errors = [error for error in (waiter.join() for waiter in waiters) if error]
            assert [(error.sqlstate, error.diag.message_primary) for error in errors] == [("40P01", "deadlock detected")]
            assert "waits for ShareLock on transaction" in errors[0].diag.message_detail


def test_on_one_server(endpoint, accounts):
    """The home's backends and those of the group beside it: their PostgreSQL does not know which belong together."""
    endpoint.run("CREATE TABLE here (n int) WITH (table_type = 'local')", "INSERT INTO here VALUES (0)")
    with blocks(endpoint, 2) as (old, young):
        old.execute("UPDATE here SET n = 1")
        young.execute(TAKE, (accounts[0],))
        first, second = Waiter(old, GIVE, (accounts[0],)), Waiter(young, "UPDATE here SET n = 2")
        assert isinstance(second.join(), psycopg.errors.DeadlockDetected)
        assert first.join() is None
        old.execute("ROLLBACK")


def test_a_circle_of_three(endpoint, accounts):
    with blocks(endpoint, 3) as connections:
        for connection, account in zip(connections, accounts):
            connection.execute(TAKE, (account,))
        waiters = [Waiter(connection, GIVE, (account,)) for connection, account in zip(connections, accounts[1:3] + accounts[:1])]
        assert isinstance(waiters[2].join(), psycopg.errors.DeadlockDetected)
        connections[2].execute("ROLLBACK")
        assert waiters[1].join() is None
        connections[1].execute("COMMIT")
        assert waiters[0].join() is None
        connections[0].execute("COMMIT")


def test_through_a_transaction_of_one_group(endpoint, accounts):
    """It has one backend, and is in the circle all the same."""
    with blocks(endpoint, 3) as (first, second, between):
        other = endpoint.run(f"SELECT min(id) FROM account WHERE id NOT IN ({', '.join(map(str, accounts))})")[0][0]
        groups = group_endpoints(endpoint)
        groups.pop("home")
        home_of_other = next(index for index, (_, group) in enumerate(sorted(groups.items()))
                             if group.run(f"SELECT count(*) FROM account WHERE id = {other}")[0][0])
        mine, theirs = accounts[home_of_other], accounts[home_of_other - 1]
        first.execute(TAKE, (mine,))
        second.execute(TAKE, (theirs,))
        between.execute(TAKE, (other,))
        waiters = [Waiter(between, GIVE, (mine,)), Waiter(first, GIVE, (theirs,)), Waiter(second, GIVE, (other,))]
        assert isinstance(waiters[2].join(), psycopg.errors.DeadlockDetected)
        second.execute("ROLLBACK")
        assert waiters[1].join() is None
        first.execute("ROLLBACK")
        assert waiters[0].join() is None


def test_a_statement_over_all_groups(endpoint, accounts):
    """The younger one is a statement of its own, which waits on one group and has written on the others."""
    with blocks(endpoint, 1) as [old], endpoint.connect() as young:
        old.execute(TAKE, (accounts[3],))
        statement = Waiter(young, "UPDATE account SET balance = balance + 1")
        wait_until(lambda: blocked(endpoint) > 0, "the statement to wait")
        circle = Waiter(old, TAKE, (accounts[1],))
        assert isinstance(statement.join(), psycopg.errors.DeadlockDetected)
        assert circle.join() is None
        old.execute("COMMIT")
        assert young.execute("SELECT sum(balance) FROM account").fetchone() == (ACCOUNTS * BALANCE - 2,)


def test_readers_and_truncate(endpoint, accounts):
    with blocks(endpoint, 2) as (reader, eraser):
        reader.execute("SELECT balance FROM account WHERE id = %s", (accounts[3],))
        truncate = Waiter(eraser, "TRUNCATE account")
        wait_until(lambda: blocked(endpoint) > 0, "TRUNCATE to wait")
        sum_of_all = Waiter(reader, "SELECT sum(balance) FROM account")
        errors = [truncate.join()]
        eraser.execute("ROLLBACK")
        errors.append(sum_of_all.join())
        assert [error.sqlstate for error in errors if error] == ["40P01"]
        reader.execute("ROLLBACK")


def test_waits_without_a_circle(endpoint, accounts):
    """Nobody is a victim, however long it takes."""
    with blocks(endpoint, 3) as (holder, second, third):
        for connection, own in ((holder, 0), (second, 1), (third, 2)):
            connection.execute(TAKE, (accounts[own],))
        waiters = [Waiter(second, TAKE, (accounts[0],)), Waiter(third, TAKE, (accounts[1],))]
        before = endpoint.run("SELECT clock_timestamp()")[0][0]
        wait_until(lambda: (endpoint.run("SELECT clock_timestamp()")[0][0] - before).total_seconds() > 3, "the detector to look")
        assert blocked(endpoint) == 2
        holder.execute("COMMIT")
        assert waiters[0].join() is None
        second.execute("COMMIT")
        assert waiters[1].join() is None
        third.execute("COMMIT")


def test_in_commit(endpoint, accounts):
    """Deferred checks wait for each other while both are prepared; neither is a victim before the other one is left alone."""
    endpoint.run("CREATE TABLE taken (id int, name text, UNIQUE (id, name) DEFERRABLE INITIALLY DEFERRED) SHARD BY (id)")
    with blocks(endpoint, 2) as connections:
        for connection, order in zip(connections, (accounts[1:3], accounts[2:0:-1])):
            for account in order:
                connection.execute("INSERT INTO taken VALUES (%s, 'a')", (account,))
        waiters = [Waiter(connection, "COMMIT") for connection in connections]
        errors = sorted(error.sqlstate if error else "" for error in (waiter.join() for waiter in waiters))
        assert errors in (["", "40P01"], ["", "23505"])
    assert endpoint.run("SELECT count(*) FROM taken") == [(2,)]
    assert endpoint.run("SELECT count(*) FROM pg_prepared_xacts") == [(0,)]


def test_a_savepoint_is_enough(endpoint, accounts):
    with blocks(endpoint, 2) as (old, young):
        old.execute(TAKE, (accounts[1],))
        young.execute("SAVEPOINT a")
        young.execute(TAKE, (accounts[2],))
        first, second = Waiter(old, GIVE, (accounts[2],)), Waiter(young, GIVE, (accounts[1],))
        assert isinstance(second.join(), psycopg.errors.DeadlockDetected)
        young.execute("ROLLBACK TO a")
        assert first.join() is None
        old.execute("COMMIT")
        young.execute(GIVE, (accounts[1],))
        young.execute("COMMIT")
        assert young.execute("SELECT sum(balance) FROM account").fetchone() == (ACCOUNTS * BALANCE + 1,)


def test_others_statements_are_theirs(endpoint, accounts):
    endpoint.run("CREATE ROLE deadlocked LOGIN PASSWORD 'x'", "GRANT ALL ON account TO deadlocked")
    try:
        with blocks(endpoint, 1) as [old], blocks(endpoint.change(user="deadlocked", password="x"), 1) as [young]:
            old.execute(TAKE, (accounts[1],))
            young.execute(TAKE, (accounts[2],))
            first, second = Waiter(old, GIVE, (accounts[2],)), Waiter(young, GIVE, (accounts[1],))
            detail = second.join().diag.message_detail
            assert f"Process {old.info.backend_pid}: <insufficient privilege>" in detail
            assert f"Process {young.info.backend_pid}: UPDATE" in detail
            assert first.join() is None
            old.execute("ROLLBACK")
    finally:
        endpoint.run("DROP OWNED BY deadlocked", "DROP ROLE deadlocked")


def test_switched_off(make_server, make_router):
    router = make_router([make_server("g1"), make_server("g2")], settings={"timeouts": {"deadlock_ms": 0}})
    router.endpoint.run(*TABLE)
    groups = group_endpoints(router.endpoint)
    groups.pop("home")
    one, two = (group.run("SELECT min(id) FROM account")[0][0] for group in groups.values())
    with blocks(router.endpoint, 2) as (old, young):
        for connection in (old, young):
            connection.execute("SET lock_timeout = '1s'")
        old.execute(TAKE, (one,))
        young.execute(TAKE, (two,))
        waiters = Waiter(old, GIVE, (two,)), Waiter(young, GIVE, (one,))
        errors = [waiter.join() for waiter in waiters]
        assert {error.sqlstate for error in errors if error} == {"55P03"}


def test_many(endpoint):
    """Transfers in any order, repeated by their victims: all of them come to an end, and nothing is lost."""
    over, problems, done, deadlocks = threading.Event(), [], [], []

    def transfer(number):
        rng = random.Random(number)
        try:
            with endpoint.connect() as connection:
                while not over.is_set():
                    try:
                        with connection.transaction():
                            for account in rng.sample(range(24), 3):
                                connection.execute(rng.choice((TAKE, GIVE)).replace("1", "0"), (account,))
                        done.append(number)
                    except psycopg.errors.DeadlockDetected:
                        deadlocks.append(number)
        except psycopg.Error as error:
            problems.append(repr(error))

    threads = [threading.Thread(target=transfer, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: problems or (len(done) > 50 and len(deadlocks) > 3), "transfers and deadlocks", 120)
    finally:
        over.set()
        for thread in threads:
            thread.join(60 * PATIENCE)
    assert not any(thread.is_alive() for thread in threads) and problems == []
    assert endpoint.run("SELECT sum(balance) FROM account") == [(ACCOUNTS * BALANCE,)]
