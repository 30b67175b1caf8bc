#!/usr/bin/env python3
"""Half an hour of everything at once: `./x soak router [--minutes 30]`.

64 clients run statements of all kinds over four groups and know what they must find; meanwhile connections, backends and
whole servers are killed and sockets are left half open, every second. In the end the rows are counted, and nothing may be
left behind: no backend, no prepared transaction, no memory.

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
from harness.processes import wait_until  # noqa: E402
from harness.raw import RawClient  # noqa: E402
from harness.soak_client import Client  # noqa: E402

TABLES = [
    "CREATE TABLE account (id bigint PRIMARY KEY, owner int, balance bigint) SHARD BY (id)",
    "CREATE TABLE entry (owner int, n bigint, text text, PRIMARY KEY (owner, n)) SHARD BY (owner)",
    "CREATE TABLE kind (id int PRIMARY KEY, name text) WITH (table_type = 'reference')",
]
ALARMS = re.compile(r"AddressSanitizer|ThreadSanitizer|LeakSanitizer|runtime error:|CHECK failed|Segmentation")


def work(endpoint, numbers, seed, calm, verify, problems):
    """One process of clients: runs them until `calm`, checks what they know after `verify`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    clients = [Client(endpoint, number, random.Random(f"{seed}/{number}")) for number in numbers]
    threads = [threading.Thread(target=client.run, args=(calm,), daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    for client, thread in zip(clients, threads):
        thread.join(timeout=240 if calm.wait() else None)
        if thread.is_alive():
            problems.put(f"client {client.number} hangs in: {client.doing}")
    verify.wait()
    try:
        for client in clients:
            for problem in client.problems + client.verify():
                problems.put(f"client {client.number}: {problem}")
            problems.put((client.done, client.failed))
    except (psycopg.Error, OSError) as error:
        problems.put(f"the rows could not be verified: {error}")
    finally:
        problems.put(None)


class Chaos(threading.Thread):
    """Something breaks every second."""

    def __init__(self, router, servers, rng):
        super().__init__(daemon=True)
        self.router, self.servers, self.random = router, servers, rng
        self.over = threading.Event()
        self.half_open = []
        self.counts = {}

    def run(self):
        while not self.over.wait(1):
            action = self.random.choice([self.terminate_backend, self.half_open_socket, self.vanish, self.cancel_backend])
            try:
                action()
            except (psycopg.Error, OSError, AssertionError, PermissionError):
                pass  # the target may be down already
            self.counts[action.__name__] = self.counts.get(action.__name__, 0) + 1
            while len(self.half_open) > 30:
                self.half_open.pop(0).close()

    def signal_backend(self, function):
        server = self.random.choice(self.servers)
        server.endpoint.run(f"SELECT {function}(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' "
                            "AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1")

    def terminate_backend(self):
        self.signal_backend("pg_terminate_backend")

    def cancel_backend(self):
        self.signal_backend("pg_cancel_backend")

    def half_open_socket(self):
        client = RawClient(self.router.endpoint)
        self.half_open.append(client)
        if self.random.random() < 0.5:
            client.login()
            client.send(b"Q\0\0\0\x30SELECT")
        else:
            client.send(b"\0\0")

    def vanish(self):
        client = RawClient(self.router.endpoint)
        client.login()
        client.send(b"Q\0\0\0\x35BEGIN; UPDATE account SET owner = owner; SELECT 1  \0"[:0x36])
        client.vanish()

    def kill_server(self):
        """One server dies at once; it comes back and recovers. Called by the main thread: a server ends when the thread
        that started it does."""
        self.counts["kill_server"] = self.counts.get("kill_server", 0) + 1
        server = self.random.choice(self.servers)
        server.kill(signal.SIGQUIT)
        wait_until(lambda: not (server.data / "postmaster.pid").exists() or self.gone(server), "a killed server to be gone")
        (server.data / "postmaster.pid").unlink(missing_ok=True)
        server.start()

    @staticmethod
    def gone(server):
        pid = int((server.data / "postmaster.pid").read_text().split("\n")[0])
        return not os.path.exists(f"/proc/{pid}")

    def stop(self):
        self.over.set()
        self.join()
        for client in self.half_open:
            client.close()


def resident_mib(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


def leftovers(router, servers):
    """What must not be there when all clients are gone."""
    for server in servers:
        def settled(at=server):
            return at.endpoint.run("SELECT count(*) FROM pg_prepared_xacts") == [(0,)]
        try:
            wait_until(settled, "prepared transactions to be settled", timeout_s=60)
        except TimeoutError:
            yield f"{server.name}: prepared transactions {server.endpoint.run('SELECT gid FROM pg_prepared_xacts')}"
        stuck = server.endpoint.run("SELECT pid, state, query FROM pg_stat_activity WHERE backend_type = 'client backend' "
                                    "AND pid <> pg_backend_pid() AND state <> 'idle'")
        if stuck:
            yield f"{server.name}: backends that are not idle: {stuck}"
        count = server.endpoint.run("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")[0][0]
        if count > 60:
            yield f"{server.name}: {count} backends"
    if not router.running():
        yield f"the router ended: {router.tail()}"
    for line in router.log.read_text(errors="replace").splitlines():
        if ALARMS.search(line):
            yield f"router's log: {line}"


def prepare(endpoint):
    endpoint.run(*TABLES)
    endpoint.run("INSERT INTO kind VALUES " + ", ".join(f"({number}, 'kind {number}')" for number in range(10)))


def soak(options):
    seed = options.seed or random.randrange(1 << 30)
    print(f"seed {seed}, {options.clients} clients, {options.minutes} minutes", flush=True)
    servers = [PostgresServer(f"g{number}").start() for number in range(1, options.groups + 1)]
    router = Router(servers, settings={"pool": {"size_per_group": 40}, "log": {"level": "warning"}}).start()
    problems = multiprocessing.Queue()
    calm, verify = multiprocessing.Event(), multiprocessing.Event()
    found, done, failed = [], 0, 0
    try:
        prepare(router.endpoint)
        numbers = range(1, options.clients + 1)
        workers = [multiprocessing.Process(target=work, daemon=True, args=(
            router.endpoint, list(numbers)[start::4], seed, calm, verify, problems)) for start in range(4)]
        for worker in workers:
            worker.start()
        chaos = Chaos(router, servers, random.Random(seed))
        chaos.start()
        memory = watch(router, options.minutes * 60, chaos)
        chaos.stop()
        calm.set()
        verify.set()
        for _ in workers:
            while (item := problems.get(timeout=600)) is not None:
                if isinstance(item, tuple):
                    done, failed = done + item[0], failed + item[1]
                else:
                    found.append(item)
        found += list(leftovers(router, servers))
        early, late = memory[len(memory) // 5], memory[-1]
        if late > early * 1.25 + 16:
            found.append(f"memory grew from {early:.0f} to {late:.0f} MiB")
        print(f"{done} statements done, {failed} failed under fire; {chaos.counts}; memory {early:.0f} → {late:.0f} MiB")
        if router.running():
            router.stop()
    finally:
        for process in [router, *servers]:
            try:
                process.stop()
            except RuntimeError as error:
                found.append(str(error))
    return found


def watch(router, seconds, chaos):
    """Memory of the router over the time of the soak; kills a server now and then."""
    memory = []
    started = time.monotonic()
    while time.monotonic() - started < seconds and router.running():
        memory.append(resident_mib(router.pid))
        time.sleep(min(5, seconds / 10))
        if len(memory) % 12 == 0:
            print(f"{(time.monotonic() - started) / 60:.0f} min, {memory[-1]:.0f} MiB", flush=True)
        if len(memory) % 9 == 8:
            chaos.kill_server()
    return memory


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found = soak(parser.parse_args())
    for problem in found[:50]:
        print(f"problem: {problem}")
    print(f"soak router: {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
