#!/usr/bin/env python3
"""Half an hour of everything at once: `./x soak router [--minutes 30]`.

64 clients run statements of all kinds over four groups and know what they must find; meanwhile every second a connection,
a backend, a whole server is killed or a socket left half open. Then comes peace: for a while nothing breaks, and nothing
may fail any more. In the end the rows are counted, and nothing may be left behind: no backend, no prepared transaction, no
memory.

PGMOSAIC_PRESET=asan (or tsan) runs a build with sanitizers: what they report is a failure too.
"""
import argparse
import multiprocessing
import os
import pathlib
import random
import re
import signal
import sys
import threading
import time

import psycopg

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.cluster import PostgresServer, Router  # noqa: E402
from harness.processes import PATIENCE, wait_until  # noqa: E402
from harness.soak_chaos import Chaos  # noqa: E402
from harness.soak_client import Client  # noqa: E402

TABLES = [
    "CREATE TABLE account (id bigint PRIMARY KEY, owner int, balance bigint) SHARD BY (id)",
    "CREATE TABLE entry (owner int, n bigint, text text, PRIMARY KEY (owner, n)) SHARD BY (owner)",
    "CREATE TABLE pair (id bigint PRIMARY KEY, n bigint) SHARD BY (id)",
    "CREATE TABLE kind (id int PRIMARY KEY, name text) WITH (table_type = 'reference')",
    "CREATE TABLE rate (id int PRIMARY KEY, n bigint) WITH (table_type = 'reference')",
    "CREATE TABLE note (id bigint PRIMARY KEY, owner int, text text)",
    "INSERT INTO kind VALUES " + ", ".join(f"({number}, 'kind {number}')" for number in range(10)),
    "INSERT INTO rate VALUES (0, 5)",
]
ANSWERS = {  # what all transactions together must have left
    "SELECT count(*) FROM account WHERE owner < 0 OR owner IS NULL": [(0,)],
    "SELECT count(*) FROM entry WHERE owner < 0": [(0,)],
    "SELECT n, count(*) FROM pair GROUP BY n HAVING count(*) <> 2": [],
    "SELECT count(*) FROM kind": [(10,)],
}
ALARMS = re.compile(r"AddressSanitizer|ThreadSanitizer|LeakSanitizer|runtime error:|CHECK failed|Segmentation")
SANITIZERS = {  # memory must show whether it grows; freed memory is kept for a while only
    "ASAN_OPTIONS": "quarantine_size_mb=16:detect_stack_use_after_return=0:malloc_context_size=12",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "second_deadlock_stack=1:history_size=4",
}
PROCESSES = 4
OLD = "prepared < now() - interval '15 s'"  # others may be those of clients at work


def work(endpoint, numbers, seed, phases, problems):
    """One process of clients: runs them until the end, then checks what they know."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    clients = [Client(endpoint, number, random.Random(f"{seed}/{number}")) for number in numbers]
    threads = [threading.Thread(target=client.run, args=phases, daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    phases[-1].wait()
    deadline = time.monotonic() + 120 * PATIENCE
    for client, thread in zip(clients, threads):
        thread.join(timeout=max(0, deadline - time.monotonic()))
        if thread.is_alive():
            problems.put(f"client {client.number} hangs in: {client.doing}")
    try:
        for client in clients:
            for problem in client.problems + client.verify():
                problems.put(f"client {client.number}: {problem}")
            problems.put((client.done, client.failed))
    except (psycopg.Error, OSError) as error:
        problems.put(f"the rows could not be verified: {error}")
    finally:
        problems.put(None)


def resident_mib(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


def settle(servers, which="true"):
    """Waits for the end of recovery after the last strike; yields what stays in doubt."""
    for server in servers:
        try:
            wait_until(lambda: server.endpoint.run(f"SELECT count(*) FROM pg_prepared_xacts WHERE {which}") == [(0,)],
                       "prepared transactions to be settled", timeout_s=60)
        except TimeoutError:
            yield f"{server.name}: prepared transactions {server.endpoint.run('SELECT gid FROM pg_prepared_xacts')}"


def leftovers(router, servers):
    """What must not be there when all clients are gone."""
    yield from settle(servers)
    if not router.running():
        return
    for sql, wanted in ANSWERS.items():
        found = router.endpoint.run(sql)
        if found != wanted:
            yield f"{sql}: {found}, must be {wanted}"
    admin = router.endpoint.change(database="pgmosaic")
    try:
        wait_until(lambda: len(admin.run("SHOW CLIENTS")) == 1, "the router to forget its clients")
    except TimeoutError:
        yield from (f"the router still has the client {row}" for row in admin.run("SHOW CLIENTS"))
    in_pools = [0, 0]
    for row in admin.run("SHOW POOLS"):
        database, user, group, in_use, idle, waiting = row[:6]
        if user != "pgmosaic":  # the router's own; they come and go
            in_pools[0] += in_use + idle
        if in_use or waiting:
            yield f"pool {database}/{user}/{group}: {in_use} in use, {waiting} waiting"
    for server in servers:
        rows = server.endpoint.run("SELECT pid, state, query FROM pg_stat_activity WHERE backend_type = 'client backend' "
                                   "AND pid <> pg_backend_pid() AND usename <> 'pgmosaic'")
        in_pools[1] += len(rows)
        if busy := [row for row in rows if row[1] != "idle"]:
            yield f"{server.name}: backends that are not idle: {busy}"
        # Of clients and of prepared transactions (no pid); an autovacuum may be at work.
        if held := server.endpoint.run("SELECT locktype, mode, l.pid FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid) "
                                       "WHERE l.pid IS NULL OR (l.pid <> pg_backend_pid() AND backend_type = "
                                       "'client backend')"):
            yield f"{server.name}: locks are held: {held}"
    if in_pools[0] != in_pools[1]:
        yield f"the servers have {in_pools[1]} backends, the router knows {in_pools[0]}"


def end(router, servers):
    """The router stops; what it then says, and what it leaves to the servers."""
    if not router.running():
        yield f"the router ended: {router.tail()}"
    elif (status := router.stop()) != 0:
        yield f"the router ended with status {status}"
    for server in servers:
        if server.running():
            server.wait_for_no_clients()
    for line in router.log.read_text(errors="replace").splitlines():
        if ALARMS.search(line):
            yield f"router's log: {line}"


def strike_on(router, seconds, chaos):
    """One strike every second; returns the memory of the router over the time."""
    memory = []
    started = time.monotonic()
    while (now := time.monotonic() - started) < seconds and router.running():
        memory.append(resident_mib(router.pid))
        if len(memory) % 60 == 0:
            print(f"{now / 60:.0f} min, {memory[-1]:.0f} MiB", flush=True)
        chaos.strike()
        time.sleep(max(0, started + len(memory) - time.monotonic()))
    return memory


def plant_wrong_row(servers):
    """Changes one row behind the router's back: a soak that does not see it is worth nothing."""
    for server in servers:
        server.endpoint.run("UPDATE account SET balance = balance + 1 WHERE id = (SELECT min(id) FROM account WHERE balance = 77)")


def soak(options, servers, router):
    seed = options.seed or random.randrange(1 << 30)
    print(f"seed {seed}, {options.clients} clients, {options.minutes} minutes", flush=True)
    problems = multiprocessing.Queue()
    peace, over = multiprocessing.Event(), multiprocessing.Event()
    found, done, failed = [], 0, 0
    router.endpoint.run(*TABLES)
    numbers = range(1, options.clients + 1)
    workers = [multiprocessing.Process(target=work, daemon=True, args=(
        router.endpoint, list(numbers)[start::PROCESSES], seed, (peace, over), problems)) for start in range(PROCESSES)]
    for worker in workers:
        worker.start()
    chaos = Chaos(router, servers, random.Random(seed))
    memory = strike_on(router, options.minutes * 60, chaos)
    chaos.stop()
    time.sleep(5 * PATIENCE)  # connections that the last strikes broke are still being noticed
    found += settle(servers, OLD)
    peace.set()
    if options.plant_wrong_row:
        plant_wrong_row(servers)
    time.sleep(options.peace)
    over.set()
    for _ in workers:
        while (item := problems.get(timeout=600 * PATIENCE)) is not None:
            if isinstance(item, tuple):
                done, failed = done + item[0], failed + item[1]
            else:
                found.append(item)
    found += leftovers(router, servers)
    early, late = max(memory[:len(memory) // 3]), max(memory[-len(memory) // 3:])
    if late > early * 1.25 + 16:
        found.append(f"memory grew from {early:.0f} to {late:.0f} MiB")
    print(f"{done} statements done, {failed} failed under fire; {chaos.counts}; memory {early:.0f} → {late:.0f} MiB")
    return found


def run(options):
    servers, router, found = [], None, []
    try:
        servers += [PostgresServer(f"g{number}").start() for number in range(1, options.groups + 1)]
        settings = {"": {"workers": options.workers}, "pool": {"size_per_group": 40}, "log": {"level": "warning"}}
        router = Router(servers, settings=settings).start(SANITIZERS)
        found += soak(options, servers, router)
        found += end(router, servers)
    finally:
        if router and os.environ.get("PGMOSAIC_KEEP_LOG"):
            pathlib.Path(os.environ["PGMOSAIC_KEEP_LOG"]).write_bytes(router.log.read_bytes())
        for process in [router, *servers]:
            try:
                if process:
                    process.stop()
            except RuntimeError as error:
                found.append(str(error))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--peace", type=float, default=15, help="seconds without strikes before the end")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--workers", type=int, default=3, help="threads of the router")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plant-wrong-row", action="store_true", help="the soak must fail: one row is changed behind it")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found = run(parser.parse_args())
    for problem in found[:50]:
        print(f"problem: {problem}")
    print(f"soak router: {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
