#!/usr/bin/env python3
"""Half an hour of schema changes under load and fire: `./x soak schema [--minutes 30]`.

Sessions run statements over four groups while others make, change and drop tables, columns, indexes, types, views and constraints;
meanwhile the router and the servers are killed and connections are cut in the middle of schema changes. Every minute or so there is
peace, in which nothing may fail, and then everything is looked at: the groups have the schema of the home, every row that was
acknowledged is there, every schema change is there that was acknowledged, and the others wholly or not at all. An error that a
session saw must be one that a single PostgreSQL could have given at that moment (harness/soak_schema.py says which are).

PGMOSAIC_PRESET=asan (or tsan) runs a build with sanitizers: what they report is a failure too.
"""
import argparse
import logging
import pathlib
import random
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness.cluster import PostgresServer, Router  # noqa: E402
from harness.soak_ends import SANITIZERS, end, put_away  # noqa: E402
from harness.soak_round import Round  # noqa: E402


def soak(options, servers, router):
    seed = options.seed or random.randrange(1 << 30)
    print(f"seed {seed}, {options.clients} clients, {options.minutes} minutes", flush=True)
    begun, found, number = time.monotonic(), [], 0
    while not found and time.monotonic() - begun < options.minutes * 60 and router.running():
        number += 1
        name = f"round_{number}"
        router.endpoint.run(f"CREATE DATABASE {name}")
        one = Round(router, servers, router.endpoint.change(database=name), options.clients, f"{seed}/{number}", options.plant)
        fire_s = min(options.fire, max(5, options.minutes * 60 - (time.monotonic() - begun)))
        found += one.run(fire_s, options.peace)
        print(f"round {number}, {time.monotonic() - begun:.0f} s: {one.summary()}", flush=True)
        if not found:
            router.endpoint.drop_database(name, timeout_s=30)
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
    parser.add_argument("--fire", type=float, default=45, help="seconds of strikes in a round")
    parser.add_argument("--peace", type=float, default=10, help="seconds without strikes at the end of a round")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--workers", type=int, default=3, help="threads of the router")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plant", default="", help="SQL that one group gets at the end of a round: the soak must fail of it")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.getLogger("psycopg").setLevel(logging.CRITICAL)  # connections that are lost are no news
    found = run(parser.parse_args())
    for problem in found[:50]:
        print(f"problem: {problem}")
    print(f"soak schema: {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
