"""A bank over several groups: transfers between accounts, and ways to read the sum of all, which never changes."""
import contextlib
import random
import threading
import time

import psycopg

from harness.processes import PATIENCE

ACCOUNTS, BALANCE = 64, 1000
TABLE = ["CREATE TABLE account (id int PRIMARY KEY, balance int) SHARD BY (id)",
         "INSERT INTO account VALUES " + ", ".join(f"({number}, {BALANCE})" for number in range(ACCOUNTS))]


class Threads:
    """`self.threads` at work until the end of the with block, when `self.over` is set."""

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(60 * PATIENCE)
            assert not thread.is_alive(), "a client hangs"


class Bank(Threads):
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
                    with contextlib.suppress(psycopg.errors.DeadlockDetected), connection.transaction():
                        connection.execute("UPDATE account SET balance = balance - 1 WHERE id = %s", (giver,))
                        connection.execute("UPDATE account SET balance = balance + 1 WHERE id = %s", (taker,))
                        self.done += 1
        except psycopg.Error as error:
            self.problems.append(repr(error))


def select(connection, **options):
    return connection.execute("SELECT sum(balance), count(*) FROM account", **options).fetchone()


def rows(connection):
    found = connection.execute("SELECT balance FROM account ORDER BY id").fetchall()
    return sum(balance for balance, in found), len(found)


def copy(connection):
    with connection.cursor().copy("COPY account (balance) TO STDOUT") as copied:
        found = [int(row[0]) for row in copied.rows()]
    return sum(found), len(found)


def in_block(read, begin="BEGIN", **options):
    """`read` as the second statement of a transaction block."""
    def reads(connection):
        connection.execute(begin)
        connection.execute("SELECT balance FROM account WHERE id = 1")
        found = read(connection, **options)
        connection.execute("COMMIT")
        return found
    return reads


def cursor(connection):
    connection.execute("DECLARE balances CURSOR FOR SELECT balance FROM account")
    found = connection.execute("FETCH 10 FROM balances").fetchall()
    found += connection.execute("FETCH ALL FROM balances").fetchall()
    return sum(balance for balance, in found), len(found)


def one_by_one(connection):
    found = [connection.execute("SELECT balance FROM account WHERE id = %s", (number,)).fetchone() for number in range(ACCOUNTS)]
    return sum(balance for balance, in found), len(found)


def behind_lock(connection):
    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    connection.execute("LOCK TABLE account IN ACCESS SHARE MODE")
    found = one_by_one(connection)
    connection.execute("COMMIT")
    return found


def by_default(connection):
    connection.execute("SET default_transaction_isolation = 'repeatable read'")
    return in_block(one_by_one)(connection)


def late_level(connection):
    connection.execute("BEGIN")
    connection.execute("SET LOCAL work_mem = '1MB'")
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    found = one_by_one(connection)
    connection.execute("COMMIT")
    return found


REPEATABLE = "BEGIN ISOLATION LEVEL REPEATABLE READ"
# How: connection -> (sum, number of accounts).
READS = {"select": select, "rows": rows, "copy": copy, "block": in_block(select), "block of rows": in_block(rows),
         "prepared in a block": in_block(select, prepare=True), "cursor": in_block(cursor), "copy in a block": in_block(copy),
         "repeatable read": in_block(select, REPEATABLE), "repeatable copy": in_block(copy, REPEATABLE),
         "repeatable cursor": in_block(cursor, REPEATABLE), "one by one": in_block(one_by_one, REPEATABLE),
         "behind LOCK TABLE": behind_lock, "by default": by_default, "SET TRANSACTION": late_level}

SLOW = ("one by one", "behind LOCK TABLE", "by default", "SET TRANSACTION")  # many statements for one sum


def wrong_sums(endpoint, how, reads_wanted=None):
    """Sums that are not what all accounts have, of 100 (`reads_wanted`) beside at least 300 transfers."""
    reads_wanted = reads_wanted or (40 if how in SLOW else 100)
    with Bank(endpoint) as bank, endpoint.connect(autocommit=True) as reader:
        wrong, reads = [], 0
        deadline = time.monotonic() + 120 * PATIENCE
        while (reads < reads_wanted or bank.done < 300) and time.monotonic() < deadline and not bank.problems:
            found = READS[how](reader)
            reads += 1
            if found != (ACCOUNTS * BALANCE, ACCOUNTS):
                wrong.append(found)
    assert bank.problems == []
    assert reads >= reads_wanted and bank.done >= 300
    return wrong
