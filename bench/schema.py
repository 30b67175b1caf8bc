#!/usr/bin/env python3
"""What schema changes and catalogs cost, with many tables, under load: `./x bench schema`.

Where a plain PostgreSQL is the measure it is asked in the same minutes, in turns.

  ddl        ALTER TABLE ... ADD COLUMN with a default on 64 shards over four groups while clients read and write: its time, what
             of the load fails, and the longest pause of a client
  catalogs   the catalog statements of a Django start (migrate --check, inspectdb), recorded from Django itself
  many       a thousand tables of 16 shards: memory of the router, one more schema change, psql's \\d and \\dt

`--trace` adds where the time of a schema change goes, statement by statement on each server.
"""
import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time

import psycopg2

from support.figures import Figures, median, say, spread
from support.load import Load
from support.peers import Peers, resident_bytes, run_program
from support.trace import trace
from harness.dialect import strip_dialect
from harness.processes import wait_until

GROUPS = 4
MS, MIB = 1e3, 1 << 20

# Part ddl

CHANGING = [
    "CREATE TABLE changing (id bigint PRIMARY KEY, owner int, v int, note text) SHARD BY (id) WITH (shard_count = 64)",
    "CREATE INDEX ON changing (owner)",
    "CREATE TABLE other (id bigint PRIMARY KEY, v int) SHARD BY (id) WITH (shard_count = 16)",
    "CREATE TABLE country (id int PRIMARY KEY, name text) WITH (table_type = 'reference')",
    "INSERT INTO changing SELECT g, g % 500, 0, 'row ' || g FROM generate_series(1, 20000) g",
    "INSERT INTO other SELECT g, 0 FROM generate_series(1, 20000) g",
    "INSERT INTO country SELECT g, 'country ' || g FROM generate_series(0, 99) g",
]
KEY = "\\set id random(1, 19990)\n"
LOAD = [  # weight, script
    (8, KEY + "SELECT v FROM changing WHERE id = :id;"),
    (4, KEY + "UPDATE changing SET v = v + 1 WHERE id = :id;"),
    (1, KEY + "SELECT count(*), sum(v) FROM changing WHERE id IN (:id, :id + 1, :id + 2, :id + 3);"),
    (1, "\\set owner random(0, 499)\nSELECT v, count(*) FROM changing WHERE owner = :owner GROUP BY v;"),
    (1, KEY + "SELECT c.v, n.name FROM changing c JOIN country n ON n.id = c.owner % 100 WHERE c.id = :id;"),
    (4, KEY + "SELECT v FROM other WHERE id = :id;"),
    (2, KEY + "UPDATE other SET v = v + 1 WHERE id = :id;"),
    (1, "\\set id random(1, 9000)\nBEGIN;\nUPDATE other SET v = v + 1 WHERE id = :id;\n"
        "UPDATE other SET v = v + 1 WHERE id = :id + 1;\nEND;"),
]
# Holds a shard of the changing table on one group and asks for one on another, which the schema change may hold already: --transactions.
BOTH = ("\\set id random(1, 9000)\nBEGIN;\nUPDATE changing SET v = v + 1 WHERE id = :id;\n"
        "UPDATE changing SET v = v + 1 WHERE id = :id + 1;\nEND;")
WARM_UP_S = 3  # pools open their connections, and their backends fill their caches: no schema change's pause
SETTLING_S = 0.25  # a statement that begins so soon after a schema change may still wait because of it


@dataclasses.dataclass
class Change:
    """A schema change and the pauses beside it, by the clock."""
    begun: float
    ended: float

    @property
    def seconds(self):
        return self.ended - self.begun


def change_under_load(endpoint, load, until):
    """One ALTER TABLE a second while the load is at work."""
    changes = []
    wait_until(load.has_begun, "the load to begin")
    time.sleep(WARM_UP_S)
    with endpoint.connect() as connection:
        while time.time() < until:
            next_one = time.time() + 1
            begun = time.time()
            connection.execute(f"ALTER TABLE changing ADD COLUMN c{len(changes)} int NOT NULL DEFAULT {len(changes)}")
            changes.append(Change(begun, time.time()))
            time.sleep(max(0, next_one - time.time()))
    return changes


def pauses(changes, done):
    """(longest transaction beside each change, longest one beside none of them), in seconds."""
    beside = [0.0] * len(changes)
    apart = 0.0
    warm = min(each.begun for each in done) + WARM_UP_S
    for each in done:
        if each.begun < warm:
            continue
        touched = [number for number, change in enumerate(changes)
                   if each.begun < change.ended + SETTLING_S and each.ended > change.begun]
        for number in touched:
            beside[number] = max(beside[number], each.ended - each.begun)
        if not touched:
            apart = max(apart, each.ended - each.begun)
    return beside, apart


def load_and_change(name, endpoint, options):
    scripts = LOAD + ([(options.transactions, BOTH)] if options.transactions else [])
    with Load(endpoint, scripts, options.clients, options.rate, options.seconds) as load:
        changes = change_under_load(endpoint, load, time.time() + options.seconds - 3)
        done, failed = load.wait()
    beside, apart = pauses(changes, done)
    say(f"ddl, {name}: {len(changes)} changes of {spread([change.seconds * MS for change in changes])} ms, {len(done)} transactions of "
        f"the load, {len(failed)} failed; the longest beside a change {spread([pause * MS for pause in beside])} ms, "
        f"beside none {apart * MS:.1f} ms")
    for line in failed[:5]:
        say(f"  {line}")
    return changes, failed, beside


def ddl(peers, figures, options):
    for endpoint, plain in ((peers.direct.endpoint, True), (peers.router.endpoint, False)):
        endpoint.run(*[strip_dialect(sql) if plain else sql for sql in CHANGING])
    load_and_change("one server", peers.direct.endpoint, options)
    changes, failed, beside = load_and_change("router", peers.router.endpoint, options)
    if len(changes) < 10 and not options.quick:
        raise RuntimeError(f"only {len(changes)} schema changes came to an end")
    times = [change.seconds * MS for change in changes]
    figures.add("ddl_64_shards_under_load", median(times), "ms", "<=", 100)
    figures.add("ddl_failed_statements_of_the_load", len(failed), "statements", "<=", 0)
    figures.add("ddl_longest_pause_of_the_load", max(beside) * MS, "ms", "<=", 100)
    if options.trace:
        trace(peers, "ALTER TABLE changing ADD COLUMN traced{n} int NOT NULL DEFAULT 1")


# Part catalogs

DJANGO = pathlib.Path(__file__).parent / "support" / "django_start.py"
SHARDED = [  # what inspectdb finds beside Django's own tables
    "CREATE TABLE customer (id bigint PRIMARY KEY, name text NOT NULL) SHARD BY (id)",
    "CREATE TABLE purchase (customer_id bigint REFERENCES customer, id int, total numeric(10, 2), PRIMARY KEY (customer_id, id)) "
    "SHARD BY (customer_id)",
    "CREATE INDEX ON purchase (total)",
    "CREATE TABLE currency (code char(3) PRIMARY KEY, name text) WITH (table_type = 'reference')",
]


def django(endpoint, what):
    done = subprocess.run([sys.executable, DJANGO, what], env={**os.environ, **endpoint.environment()}, text=True,
                          stdout=subprocess.PIPE)
    if done.returncode != 0:
        raise RuntimeError(f"Django's {what} ended with {done.returncode}")
    return done.stdout


def catalog_round(connection, statements):
    """Seconds of the statements one by one, and how many rows they gave."""
    rows = 0
    with connection.cursor() as cursor:
        begun = time.monotonic()
        for sql in statements:
            cursor.execute(sql)
            if cursor.description:
                rows += len(cursor.fetchall())
        return time.monotonic() - begun, rows


def catalogs(peers, figures, options):
    sides = []
    for endpoint, plain in ((peers.router.endpoint, False), (peers.direct.endpoint, True)):
        endpoint.run("CREATE DATABASE django")
        endpoint = endpoint.change(database="django")
        endpoint.run(*[strip_dialect(sql) if plain else sql for sql in SHARDED])
        django(endpoint, "migrate")
        sides.append(endpoint)
    statements = json.loads(django(sides[1], "start"))
    connections = [psycopg2.connect(side.conninfo()) for side in sides]
    try:
        for connection in connections:
            connection.autocommit = True
        times = [[], []]
        for number in range(-2, options.rounds * 4):  # the first two warm up
            order = (0, 1) if number % 2 == 0 else (1, 0)
            taken = {side: catalog_round(connections[side], statements) for side in order}
            if taken[0][1] != taken[1][1]:
                raise RuntimeError(f"the router gave {taken[0][1]} rows, one server {taken[1][1]}")
            if number >= 0:
                for side in order:
                    times[side].append(taken[side][0])
        slow_statements(connections, statements, options)
    finally:
        for connection in connections:
            connection.close()
    say(f"catalogs: {len(statements)} statements of Django, router {spread([t * MS for t in times[0]])} ms, one server "
        f"{spread([t * MS for t in times[1]])} ms")
    figures.add("catalog_round_of_django", median([ours / theirs for ours, theirs in zip(*times)]), "x_one_server", "<=", 1.2)


def slow_statements(connections, statements, options):
    """Tells which statements cost most beside what they cost on one server."""
    if not options.trace:
        return
    found = []
    for sql in statements:
        ours, theirs = (median([catalog_round(connection, [sql])[0] for _ in range(9)]) * MS for connection in connections)
        found.append((ours - theirs, ours, theirs, " ".join(sql.split())))
    for more, ours, theirs, sql in sorted(found, reverse=True)[:12]:
        say(f"  {ours:.2f} ms, one server {theirs:.2f} ms: {sql[:200]}")


# Part many

def table_name(number):
    return f"many_{number:04d}"


def many_table(name):
    return (f"CREATE TABLE {name} (id bigint PRIMARY KEY, owner int NOT NULL, name text, price numeric DEFAULT 0, "
            "made timestamptz DEFAULT now()) SHARD BY HASH (id) WITH (shard_count=16)")


def create_many(peers, count):
    """Creates the tables on both sides; says how the time of one grows."""
    for endpoint, plain in ((peers.direct.endpoint, True), (peers.router.endpoint, False)):
        times = []
        with endpoint.connect() as connection:
            for number in range(count):
                sql = many_table(table_name(number))
                begun = time.monotonic()
                connection.execute(strip_dialect(sql) if plain else sql)
                times.append((time.monotonic() - begun) * MS)
        tenth = max(1, count // 10)
        say(f"many: {count} tables in {sum(times) / MS:.0f} s {'on one server' if plain else 'through the router'}, one of the first "
            f"{tenth} {median(times[:tenth]):.1f} ms, of the last {median(times[-tenth:]):.1f} ms")


def timed(connection, statements):
    times = []
    for sql in statements:
        begun = time.monotonic()
        connection.execute(sql)
        times.append((time.monotonic() - begun) * MS)
    return times


def psql_once(endpoint, script):
    begun = time.monotonic()
    run_program("psql", endpoint, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", os.devnull, "-f", script)
    return time.monotonic() - begun


def psql_ratio(peers, command, options):
    """Time of a psql that gives the command 20 times, against one that does so on one server; connecting included."""
    script = peers.router.directory / "command.sql"
    script.write_text(f"{command}\n" * 20)
    ratios, ours, theirs = [], [], []
    for number in range(options.rounds + 1):
        sides = [(ours, peers.router.endpoint), (theirs, peers.direct.endpoint)]
        for times, endpoint in sides if number % 2 == 0 else reversed(sides):
            times.append(psql_once(endpoint, script) * MS / 20)
        ratios.append(ours[-1] / theirs[-1])
    say(f"many: {command}: router {spread(ours[1:])} ms, one server {spread(theirs[1:])} ms")
    return median(ratios[1:])


def many(peers, figures, options):
    router, count = peers.router, options.tables
    router.endpoint.run("CREATE TABLE first (id bigint PRIMARY KEY) SHARD BY HASH (id)", "SELECT count(*) FROM first")
    before = resident_bytes(router)
    create_many(peers, count)
    grown = resident_bytes(router) - before
    middle = table_name(count // 2)
    with router.endpoint.connect() as connection:
        alters = timed(connection, [f"ALTER TABLE {middle} ADD COLUMN c{number} int DEFAULT 5" for number in range(10)])
        creates = timed(connection, [many_table(f"more_{number}") for number in range(10)])
    say(f"many: router's memory grew by {grown / MIB:.1f} MiB; ADD COLUMN {spread(alters)} ms, CREATE TABLE {spread(creates)} ms")
    figures.add("many_tables_router_memory", grown / MIB, "MiB", "<=", 64)
    figures.add("many_tables_add_column", median(alters), "ms", "<=", 300)
    figures.add("many_tables_create_table", median(creates), "ms", "<=", 300)
    for server in [peers.direct, *peers.groups]:
        server.endpoint.run("VACUUM ANALYZE pg_class", "VACUUM ANALYZE pg_attribute", "VACUUM ANALYZE pg_inherits")
    figures.add("many_tables_psql_d", psql_ratio(peers, f"\\d {table_name(count // 3)}", options), "x_one_server", "<=", 1.5)
    figures.add("many_tables_psql_dt", psql_ratio(peers, "\\dt", options), "x_one_server", "<=", 1.5)
    if options.trace:
        trace(peers, f"ALTER TABLE {middle} ADD COLUMN traced{{n}} int DEFAULT 5")
        trace(peers, many_table("traced_{n}"))


PARTS = {"ddl": ddl, "catalogs": catalogs, "many": many}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=16, help="of the load beside schema changes")
    parser.add_argument("--rate", type=int, default=600, help="transactions of that load in a second")
    parser.add_argument("--seconds", type=int, default=30, help="length of that load; a schema change each second")
    parser.add_argument("--transactions", type=int, default=0,
                        help="weight, beside the 22 of the others, of transactions that write to the changing table on several groups")
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--trace", action="store_true", help="say where the time of schema changes goes")
    parser.add_argument("--quick", action="store_true", help="a run that only shows that all works")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.tables = 1, 8, 20
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {' '.join(unknown)}")
    figures = Figures()
    for name in options.parts or PARTS:  # each with servers of its own: a thousand tables are not to be in the way of the others
        with Peers(GROUPS, poolers=()) as peers:
            PARTS[name](peers, figures, options)
    return 0 if figures.report() else 1


if __name__ == "__main__":
    sys.exit(main())
