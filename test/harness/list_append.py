"""Clients that append to lists and read them, and what they saw as a history (harness/histories.py)."""
import random
import threading

import psycopg

from harness.histories import ABORTED, UNKNOWN, Transaction

LISTS = 600
TABLE = ["CREATE TABLE list (id int PRIMARY KEY, v int[]) SHARD BY (id)",
         f"INSERT INTO list SELECT i, '{{}}' FROM generate_series(0, {LISTS - 1}) i"]
LEVELS = ("READ COMMITTED", "REPEATABLE READ")
AT_ONCE, APPENDS_EACH = 6, 40  # lists in use; then come the next ones


class ListAppend:
    """`transactions` of `clients` in total, each of some appends and reads of one list or several."""

    def __init__(self, endpoint, transactions, clients=6, seed=1):
        self.endpoint, self.transactions, self.lock = endpoint, transactions, threading.Lock()
        self.history, self.problems, self.appended = [], [], 0
        self.threads = [threading.Thread(target=self.work, args=(random.Random(seed * 1000 + number),), daemon=True)
                        for number in range(clients)]

    def run(self, patience_s):
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join(patience_s)
        assert not any(thread.is_alive() for thread in self.threads), "clients still wait"
        assert self.problems == []
        return self.history

    def begin(self):
        with self.lock:
            if len(self.history) >= self.transactions:
                return None
            self.history.append(Transaction(len(self.history) + 1))
            return self.history[-1]

    def value(self):
        """A new one, and the lists in use."""
        with self.lock:
            self.appended += 1
            first = self.appended // APPENDS_EACH % (LISTS - AT_ONCE)
            return self.appended, range(first, first + AT_ONCE)

    def work(self, rng):
        try:
            connection = self.endpoint.connect()
            while (transaction := self.begin()) is not None:
                if not self.attempt(connection, transaction, rng):
                    connection.close()
                    connection = self.endpoint.connect()
            connection.close()
        except Exception as error:  # pylint: disable=broad-except
            self.problems.append(repr(error))

    def attempt(self, connection, transaction, rng):
        """False: the connection is gone."""
        steps, block = rng.randint(1, 4), rng.random() < 0.8
        level = rng.choice(LEVELS)
        transaction.one_snapshot = block and level == "REPEATABLE READ"
        committing = not block
        try:
            if block:
                connection.execute(f"BEGIN ISOLATION LEVEL {level}")
            for _ in range(steps if block else 1):
                self.step(connection, transaction, rng)
            committing = True
            if block:
                connection.execute("COMMIT")
        except psycopg.Error as error:
            refused = (error.sqlstate or "").startswith("40")
            transaction.outcome = ABORTED if refused or not committing else UNKNOWN
            if not refused and connection.info.transaction_status != psycopg.pq.TransactionStatus.INERROR and not connection.broken:
                raise
            if connection.broken:
                return False
            if block:
                connection.execute("ROLLBACK")
        return True

    def step(self, connection, transaction, rng):
        value, lists = self.value()
        if rng.random() < 0.5:
            which = rng.choice(lists)
            transaction.appends.append((which, value))
            connection.execute("UPDATE list SET v = v || %s WHERE id = %s", (value, which))
            return
        which = rng.sample(lists, rng.choice((1, 3, 4)))
        found = connection.execute(f"SELECT id, v FROM list WHERE id IN ({', '.join(map(str, which))})").fetchall()
        own = set(transaction.appends)
        transaction.reads.append({key: [each for each in values if (key, each) not in own] for key, values in found})
