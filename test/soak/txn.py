#!/usr/bin/env python3
"""Transactions over groups, for as long as you like: `./x soak txn [--minutes 10] [--fire]`.

Sixteen clients move money between the accounts of four groups while readers sum up all of them, in every isolation level, through
cursors and COPY: no sum may be wrong. Other clients add one to a row on each group: in the end all rows are equal, and tell
the number of commits that were acknowledged, or a few more. `--fire`: something is killed every second, the router, a server or
a backend; then statements may fail, but no sum may be wrong, and nothing is left prepared. At the end a history of appends and
reads is made and judged (harness/histories.py).

PGMOSAIC_PRESET=asan (or tsan) runs a build with sanitizers: what they report is a failure too.
"""
import argparse
import logging
import pathlib
import random
import sys
import threading
import time

import psycopg

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.bank import ACCOUNTS, BALANCE, READS, TABLE  # noqa: E402
from harness.cluster import PostgresServer, Router  # noqa: E402
from harness.histories import anomalies  # noqa: E402
from harness.list_append import TABLE as LISTS  # noqa: E402
from harness.list_append import ListAppend  # noqa: E402
from harness.processes import PATIENCE, wait_until  # noqa: E402
from harness.schemas import group_endpoints  # noqa: E402
from harness.soak_chaos import SchemaChaos  # noqa: E402
from harness.soak_ends import SANITIZERS, end, put_away  # noqa: E402


class TxnChaos(SchemaChaos):
    def __init__(self, router, servers, rng):
        super().__init__(router, servers, rng, router.endpoint)
        self.actions = [(self.terminate_backend, 3), (self.kill_backend, 2), (self.kill_server, 1), (self.kill_server_at_once, 2),
                        (self.kill_router, 3)]


class Clients:
    """Threads that go on until the end, with a new connection where the one before was lost."""

    def __init__(self, endpoint, fire):
        self.endpoint, self.fire = endpoint, fire
        self.over, self.threads, self.wrong = threading.Event(), [], []
        self.transfers, self.sums, self.errors = 0, dict.fromkeys(READS, 0), 0
        self.attempts, self.acknowledged, self.lock = 0, 0, threading.Lock()

    def start(self, work, *arguments):
        thread = threading.Thread(target=self.keep_on, args=(work, *arguments), daemon=True)
        self.threads.append(thread)
        thread.start()

    def keep_on(self, work, *arguments):
        while not self.over.is_set():
            try:
                with self.endpoint.connect() as connection:
                    while not self.over.is_set():
                        work(connection, *arguments)
            except psycopg.Error as error:
                self.errors += 1
                if not self.fire and not isinstance(error, (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)):
                    self.wrong.append(repr(error))
                self.over.wait(0.05)

    def transfer(self, connection, rng):
        giver, taker = sorted(rng.sample(range(ACCOUNTS), 2))
        if rng.random() < 0.2:
            taker = giver  # of one group
        with connection.transaction():
            connection.execute("UPDATE account SET balance = balance - 1 WHERE id = %s", (giver,))
            connection.execute("UPDATE account SET balance = balance + 1 WHERE id = %s", (taker,))
        self.transfers += 1

    def read(self, connection, how):
        found = READS[how](connection)
        if found != (ACCOUNTS * BALANCE, ACCOUNTS):
            self.wrong.append(f"{how}: {found}")
        self.sums[how] += 1

    def count(self, connection, rows):
        with self.lock:
            self.attempts += 1
        with connection.transaction():
            for row in rows:
                connection.execute("UPDATE counter SET n = n + 1 WHERE id = %s", (row,))
        with self.lock:
            self.acknowledged += 1

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join(90 * PATIENCE)
        if any(thread.is_alive() for thread in self.threads):
            self.wrong.append("clients still wait")


def soak(options, servers, router):
    rng = random.Random(options.seed)
    router.endpoint.run(*TABLE, *LISTS, "CREATE TABLE counter (id int PRIMARY KEY, n int) SHARD BY (id)",
                        "INSERT INTO counter SELECT i, 0 FROM generate_series(1, 100) i")
    groups = group_endpoints(router.endpoint)
    groups.pop("home")
    rows = [group.run("SELECT min(id) FROM counter")[0][0] for group in groups.values()]
    clients, chaos = Clients(router.endpoint, options.fire), TxnChaos(router, servers, rng)
    for number in range(16):
        clients.start(clients.transfer, random.Random(f"{options.seed}/{number}"))
    for how in READS:
        clients.start(clients.read, how)
    for _ in range(2):
        clients.start(clients.count, rows)
    end_at = time.monotonic() + options.minutes * 60
    while time.monotonic() < end_at and not clients.wrong:
        if options.fire:
            chaos.strike()
        time.sleep(1)
    clients.stop()
    found = list(clients.wrong)
    prepared = "SELECT count(*) FROM pg_prepared_xacts"
    wait_until(lambda: all(server.endpoint.run(prepared) == [(0,)] for server in servers), "transactions to be settled", 30)
    counted = {n for n, in router.endpoint.run(f"SELECT n FROM counter WHERE id IN ({', '.join(map(str, rows))})")}
    if len(counted) != 1 or not clients.acknowledged <= max(counted) <= clients.attempts:
        found.append(f"counters {counted} after {clients.acknowledged} acknowledged of {clients.attempts} attempts")
    found += anomalies(ListAppend(router.endpoint, 3000, seed=options.seed).run(600 * PATIENCE))
    fewest = min(clients.sums.items(), key=lambda item: item[1])
    print(f"{clients.transfers} transfers, {sum(clients.sums.values())} sums (fewest: {fewest}), {clients.acknowledged} counts, "
          f"{clients.errors} errors, strikes {chaos.counts}", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--fire", action="store_true", help="kill something every second")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)
    print(f"seed {options.seed}, {options.minutes} minutes", flush=True)
    servers, router, found = [], None, []
    try:
        settings = {"max_prepared_transactions": 200}
        servers += [PostgresServer(f"g{number}", settings).start() for number in range(1, 5)]
        router = Router(servers, settings={"pool": {"size_per_group": 60}, "log": {"level": "warning"}}).start(SANITIZERS)
        found += soak(options, servers, router)
        found += end(router, servers)
    finally:
        found += put_away(router, servers)
    for line in found[:20]:
        print(line)
    print(f"{len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
