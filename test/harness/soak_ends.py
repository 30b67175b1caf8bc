"""How a soak starts and ends: the tables, what is watched while it runs, what must be settled when its strikes are over."""
import os
import pathlib
import re

import psycopg

from harness.processes import wait_until

TABLES = [
    "CREATE TABLE account (id bigint PRIMARY KEY, owner int, balance bigint) SHARD BY (id)",
    "CREATE TABLE entry (owner int, n bigint, text text, PRIMARY KEY (owner, n)) SHARD BY (owner)",
    "CREATE TABLE pair (id bigint PRIMARY KEY, n bigint) SHARD BY (id)",
    "CREATE TABLE kind (id int PRIMARY KEY, name text) WITH (table_type = 'reference')",
    "CREATE TABLE rate (id int PRIMARY KEY, n bigint) WITH (table_type = 'reference')",
    "CREATE TABLE note (id bigint PRIMARY KEY, owner int, text text)",
    "INSERT INTO kind VALUES " + ", ".join(f"({number}, 'kind {number}')" for number in range(10)),
    "INSERT INTO rate VALUES (0, 5)",
    "CREATE SEQUENCE numbers",
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
OLD = "prepared < now() - interval '15 s'"  # others may be those of clients at work


def resident_mib(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


def settled(server, which):
    try:
        return server.endpoint.run(f"SELECT count(*) FROM pg_prepared_xacts WHERE {which}") == [(0,)]
    except psycopg.OperationalError:  # it has only now noticed that a backend was killed
        return False


def settle(servers, which="true"):
    """Waits for the end of recovery after the last strike; yields what stays in doubt."""
    for server in servers:
        try:
            wait_until(lambda: settled(server, which), "prepared transactions to be settled", timeout_s=60)
        except TimeoutError:
            yield f"{server.name}: prepared transactions {server.endpoint.run('SELECT gid FROM pg_prepared_xacts')}"


def leftovers(router, servers, endpoint):
    """What must not be there when all clients of the database of `endpoint` are gone."""
    yield from settle(servers)
    if not router.running():
        return
    for sql, wanted in ANSWERS.items():
        found = endpoint.run(sql)
        if found != wanted:
            yield f"{sql}: {found}, must be {wanted}"
    admin = router.endpoint.change(database="pgmosaic")
    try:
        wait_until(lambda: len(admin.run("SHOW CLIENTS")) == 1, "the router to forget its clients")
    except TimeoutError:
        yield from (f"the router still has the client {row}" for row in admin.run("SHOW CLIENTS"))
    for database, user, group, in_use, _, waiting in (row[:6] for row in admin.run("SHOW POOLS")):
        if in_use or waiting:
            yield f"pool {database}/{user}/{group}: {in_use} in use, {waiting} waiting"

    def backends_of(server):  # the router's own, of the user pgmosaic, come and go
        return server.endpoint.run("SELECT pid, state, query FROM pg_stat_activity WHERE backend_type = 'client backend' "
                                   "AND pid <> pg_backend_pid() AND usename <> 'pgmosaic'")

    def counts():
        known = sum(row[3] + row[4] for row in admin.run("SHOW POOLS") if row[1] != "pgmosaic")
        return known, sum(len(backends_of(server)) for server in servers)

    for server in servers:
        def backends(server=server):
            return backends_of(server)

        # A killed router's statements run to their end: a server does not look for its client meanwhile.
        try:
            wait_until(lambda: all(row[1] == "idle" for row in backends()), "all backends to be idle")
        except TimeoutError:
            yield f"{server.name}: backends that are not idle: {[row for row in backends() if row[1] != 'idle']}"
        # Of clients and of prepared transactions (no pid); an autovacuum may be at work.
        def held(server=server):  # the router's own questions have some for a moment
            return server.endpoint.run("SELECT locktype, mode, l.pid FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid) "
                                       "WHERE l.pid IS NULL OR (l.pid <> pg_backend_pid() AND backend_type = "
                                       "'client backend')")

        try:
            wait_until(lambda: not held(), "all locks to be let go")
        except TimeoutError:
            yield f"{server.name}: locks are held: {held()}"
    try:  # one that has just been closed is still there for a moment
        wait_until(lambda: len(set(counts())) == 1, "the servers to have the backends that the router knows")
    except TimeoutError:
        yield "the router knows {} backends, the servers have {}".format(*counts())


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


def put_away(router, servers):
    """Stops what runs; with PGMOSAIC_KEEP_LOG=FILE the router's log is kept there, the servers' beside it."""
    keep = os.environ.get("PGMOSAIC_KEEP_LOG")
    for process in filter(None, [router, *servers]):
        if keep:
            name = keep if process is router else f"{keep}.{process.name}"
            pathlib.Path(name).write_bytes(process.log.read_bytes())
    for process in filter(None, [router, *servers]):
        try:
            process.stop()
        except RuntimeError as error:
            yield str(error)
