"""Reads over several groups beside transactions over several groups: all of a transaction or nothing."""
import contextlib
import random
import threading
import time

import psycopg
import pytest

from harness.fixtures import SELF_CHECK
from harness.pair import databases
from harness.processes import PATIENCE, wait_until
from harness.schemas import group_endpoints

pytestmark = pytest.mark.skipif(SELF_CHECK, reason="about several servers")
ACCOUNTS, BALANCE = 64, 1000


@pytest.fixture
def endpoint(router):
    with databases("untorn", router) as [made]:
        made.run("CREATE TABLE account (id int PRIMARY KEY, balance int) SHARD BY (id)",
                 "INSERT INTO account VALUES " + ", ".join(f"({number}, {BALANCE})" for number in range(ACCOUNTS)))
        yield made


class Bank:
    """Transfers between random accounts, most of them over two groups, until the end of the with block."""

    def __init__(self, endpoint, clients=6):
        self.endpoint, self.over, self.problems, self.done = endpoint, threading.Event(), [], 0
        self.threads = [threading.Thread(target=self.transfer, args=(number,)) for number in range(clients)]

    def transfer(self, number):
        rng = random.Random(number)
        try:
            with self.endpoint.connect(autocommit=True) as connection:
                while not self.over.is_set():
                    giver, taker = sorted(rng.sample(range(ACCOUNTS), 2))
                    with connection.transaction():
                        connection.execute("UPDATE account SET balance = balance - 1 WHERE id = %s", (giver,))
                        connection.execute("UPDATE account SET balance = balance + 1 WHERE id = %s", (taker,))
                    self.done += 1
        except psycopg.Error as error:
            self.problems.append(repr(error))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()


def sums(connection, how):
    if how == "select":
        return connection.execute("SELECT sum(balance), count(*) FROM account").fetchall()
    if how == "rows":
        rows = connection.execute("SELECT balance FROM account ORDER BY id").fetchall()
        return [(sum(balance for balance, in rows), len(rows))]
    with connection.cursor().copy("COPY account (balance) TO STDOUT") as copy:
        rows = [int(row[0]) for row in copy.rows()]
    return [(sum(rows), len(rows))]


def wrong_sums(endpoint, how, reads_wanted=200):
    """Sums that are not what all accounts have, and how many were read beside at least 500 transfers."""
    with Bank(endpoint) as bank, endpoint.connect(autocommit=True) as reader:
        wrong, reads = [], 0
        deadline = time.monotonic() + 120 * PATIENCE
        while (reads < reads_wanted or bank.done < 500) and time.monotonic() < deadline and not bank.problems:
            found = sums(reader, how)
            reads += 1
            if found != [(ACCOUNTS * BALANCE, ACCOUNTS)]:
                wrong.append(found)
    assert bank.problems == []
    assert reads >= reads_wanted and bank.done >= 500
    return wrong


@pytest.mark.parametrize("how", ["select", "rows", "copy"])
def test_sums(endpoint, how):
    assert wrong_sums(endpoint, how) == []


def test_sums_are_wrong_without(make_server, make_router):
    """What the others test would be seen here."""
    router = make_router([make_server("g1"), make_server("g2")], settings={"sharding": {"untorn_reads": False}})
    router.endpoint.run("CREATE TABLE account (id int PRIMARY KEY, balance int) SHARD BY (id)",
                        "INSERT INTO account VALUES " + ", ".join(f"({number}, {BALANCE})" for number in range(ACCOUNTS)))
    assert wrong_sums(router.endpoint, "select") != []


def test_a_table_is_never_seen_empty(endpoint):
    """TRUNCATE is seen by snapshots from before it: readers wait for its end before they take theirs."""
    over, problems = threading.Event(), []

    def fill():
        try:
            with endpoint.connect(autocommit=True) as connection:
                while not over.is_set():
                    with connection.transaction():
                        connection.execute("TRUNCATE account")
                        connection.execute("INSERT INTO account VALUES " + ", ".join(
                            f"({number}, {BALANCE})" for number in range(ACCOUNTS)))
        except psycopg.Error as error:
            problems.append(repr(error))

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        with endpoint.connect(autocommit=True) as reader:
            for _ in range(60):
                assert sums(reader, "select") == [(ACCOUNTS * BALANCE, ACCOUNTS)]
    finally:
        over.set()
        thread.join()
    assert problems == []


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
