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
import pathlib
import random
import signal
import sys
import threading
import time

import psycopg

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.cluster import PostgresServer, Router  # noqa: E402
from harness.processes import PATIENCE  # noqa: E402
from harness.soak_chaos import Chaos  # noqa: E402
from harness.soak_client import Client  # noqa: E402
from harness.soak_ends import OLD, SANITIZERS, TABLES, end, leftovers, put_away, resident_mib, settle  # noqa: E402

PROCESSES = 4


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
    found += leftovers(router, servers, router.endpoint)
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
        found += put_away(router, servers)
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
