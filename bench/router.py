#!/usr/bin/env python3
"""The router's figures, measured beside its peers in one run: `./x bench router`.

Peers take turns (router, pgbouncer, router, …), so that a slow minute of the machine strikes both; each figure is the
median of the rounds. The servers are the benchmark's own, all with the same settings.

  points   point SELECTs by key with pgbench over TCP: CPU of the router per statement, and tps, against pgbouncer
  copy     COPY of 5 million rows of 60 bytes into 16 shards against COPY into one server
  idle     resident memory of idle client connections
  heap     heap allocations of the router per point SELECT
  sequences INSERTs that leave a serial column out, with and without blocks of numbers, against a given value
  micro    plan lookup and key hash, from the *_benchmark programs
"""
import argparse
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import time

from support.figures import Figures, median, say, spread
from support.peers import Peers, cpu_seconds, processes, resident_bytes, run_program
from support.pgbench import CLIENTS, measured
from harness.dialect import strip_dialect
from harness.cluster import PostgresServer, Router
from harness.raw import RawClient

ACCOUNTS = 100_000
POINT_TABLE = "CREATE TABLE accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84)) SHARD BY (aid)"
COPY_TABLE = "CREATE TABLE loaded (id bigint, a int, b text) SHARD BY (id)"

# Benchmark programs: figure, program, name of the benchmark, nanoseconds allowed.
MICRO = [
    ("key_hash", "catalog_benchmark", r"^(int8_text|int8_binary|hash_int)$", 50),
    ("plan_lookup", "plan_benchmark|exec_benchmark|router_benchmark|sql_benchmark", r"(lookup|known_shape)", 1000),
    ("shape_scan", "sql_benchmark", r"^(point_select|pgbench_select)$", 1000),
]


def fill_points(peers):
    for endpoint, plain in ((peers.router.endpoint, False), (peers.direct.endpoint, True)):
        endpoint.run(strip_dialect(POINT_TABLE) if plain else POINT_TABLE)
        with endpoint.connect() as connection:
            with connection.cursor().copy("COPY accounts (aid, bid, abalance, filler) FROM STDIN") as copy:
                for number in range(1, ACCOUNTS + 1):
                    copy.write_row((number, 1, number % 1000, ""))
    for server in [peers.direct, *peers.groups]:
        server.endpoint.run("VACUUM ANALYZE accounts")


def points_once(process, endpoint, mode, script, seconds):
    """(tps, microseconds of the process' CPU per statement) of one pgbench run."""
    return measured(endpoint, script, seconds, mode, processes=[process])


def points(peers, figures, options):
    fill_points(peers)
    script = peers.router.directory / "points.sql"
    script.write_text(f"\\set aid random(1, {ACCOUNTS})\nSELECT abalance FROM accounts WHERE aid = :aid;\n")
    for mode, pooling in (("simple", "transaction"), ("extended", "transaction"), ("prepared", "session")):
        bouncer = peers.bouncers[pooling]
        for process in (peers.router, bouncer):  # warm up: connections, caches
            points_once(process, process.endpoint, mode, script, 1)
        ours, theirs = [], []
        for number in range(options.rounds):
            turns = [(ours, peers.router), (theirs, bouncer)]
            for results, process in turns if number % 2 == 0 else reversed(turns):
                results.append(points_once(process, process.endpoint, mode, script, options.seconds))
        cpu = [mine[1] / other[1] for mine, other in zip(ours, theirs)]
        tps = [mine[0] / other[0] for mine, other in zip(ours, theirs)]
        say(f"points, {mode}: router {spread([r[1] for r in ours])} µs, pgbouncer ({pooling} mode) "
            f"{spread([r[1] for r in theirs])} µs; {median([r[0] for r in ours]):.0f} against "
            f"{median([r[0] for r in theirs]):.0f} tps")
        figures.add(f"cpu_per_point_select_{mode}", median(cpu), "x_pgbouncer", "<=", 1.05)
        figures.add(f"tps_point_select_{mode}", median(tps), "x_pgbouncer", ">=", 0.97)
    direct = [run_direct(peers, script, options) for _ in range(options.rounds)]
    say(f"points, simple, without any pooler: {median(direct):.0f} tps")


class HeapCounter:
    """Counts the allocations of processes that start in `environment`."""

    def __init__(self, directory):
        library, self.file = directory / "malloc_count.so", directory / "malloc_count"
        source = pathlib.Path(__file__).parent / "support" / "malloc_count.c"
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-fno-builtin", "-o", library, source], check=True)
        self.file.write_bytes(bytes(8))
        self.environment = {**os.environ, "LD_PRELOAD": str(library), "MALLOC_COUNT_FILE": str(self.file)}

    def count(self):
        return int.from_bytes(self.file.read_bytes(), sys.byteorder)


def heap(peers, figures, options):
    """A router over servers of its own, with every allocation counted."""
    del peers
    directory = processes.scratch_directory("heap")
    counter = HeapCounter(directory)
    servers = [PostgresServer(f"counted{number}").start() for number in (1, 2)]
    router = Router(servers, name="counted", settings={"log": {"level": "warning"}})
    script = directory / "points.sql"
    script.write_text(f"\\set aid random(1, {ACCOUNTS})\nSELECT abalance FROM counted WHERE aid = :aid;\n")
    router.start(counter.environment)
    try:
        router.endpoint.run(POINT_TABLE.replace("accounts", "counted"))
        for mode in ("simple", "extended", "prepared"):
            points_once(router, router.endpoint, mode, script, 1)
            # Two lengths: what a connection costs at its start and end falls out.
            runs = []
            for seconds in (1, 1 + options.seconds):
                before = counter.count()
                said = run_program("pgbench", router.endpoint, "-n", "-M", mode, "-c", CLIENTS, "-j", 2, "-T", seconds,
                                   "-f", script)
                runs.append((int(re.search(r"transactions actually processed: (\d+)", said)[1]), counter.count() - before))
            per_statement = (runs[1][1] - runs[0][1]) / (runs[1][0] - runs[0][0])
            say(f"heap, {mode}: {per_statement:.3f} allocations per statement")
            figures.add(f"allocations_per_point_select_{mode}", max(per_statement, 0), "allocations", "<=", 0.1)
    finally:
        for process in (router, *servers):
            process.stop()


def run_direct(peers, script, options):
    said = run_program("pgbench", peers.direct.endpoint, "-n", "-M", "simple", "-c", CLIENTS, "-j", 2, "-T",
                       options.seconds, "-f", script)
    return float(re.search(r"tps = ([\d.]+)", said)[1])


def write_rows(path, count):
    """Rows of 60 bytes: key, number, text."""
    with open(path, "w", encoding="ascii") as file:
        for start in range(0, count, 10_000):
            lines = []
            for number in range(start, min(start + 10_000, count)):
                head = f"{number * 7919 % 1_000_000_007}\t{number % 100_000}\t"
                lines.append(head + "mosaic stone of a row that is loaded in bulk here"[:59 - len(head)].ljust(59 - len(head), "x"))
            file.write("\n".join(lines) + "\n")


def copy_once(process, endpoint, table, path):
    """(seconds, CPU seconds of `process`, rows) of one COPY into an empty table."""
    endpoint.run("DROP TABLE IF EXISTS loaded", table)
    before, started = cpu_seconds(process), time.monotonic()
    said = run_program("psql", endpoint, "-X", "-c", f"\\copy loaded FROM '{path}'")
    return time.monotonic() - started, cpu_seconds(process) - before, int(re.search(r"COPY (\d+)", said)[1])


def copies(peers, figures, options):
    path = peers.router.directory / "rows.txt"
    write_rows(path, options.rows)
    shares, cpu = [], []
    for number in range(options.rounds):
        turns = [("router", peers.router, peers.router.endpoint, COPY_TABLE),
                 ("direct", peers.direct, peers.direct.endpoint, strip_dialect(COPY_TABLE))]
        taken = {}
        for name, process, endpoint, table in turns if number % 2 == 0 else reversed(turns):
            seconds, used, rows = copy_once(process, endpoint, table, path)
            taken[name] = seconds
            if name == "router":
                cpu.append(used / rows * 1e6)
        shares.append(taken["direct"] / taken["router"])
        say(f"copy: router {options.rows / taken['router'] / 1e6:.3f} M rows/s, one server "
            f"{options.rows / taken['direct'] / 1e6:.3f} M rows/s, {cpu[-1]:.3f} µs of router CPU per row")
    path.unlink()
    figures.add("copy_router_cpu_per_row", median(cpu), "us", "<=", 0.35)
    figures.add("copy_rows_per_second", median(shares), "x_one_server", ">=", 1.0)


def idle_once(process, endpoint, count):
    """Bytes of resident memory that each of `count` idle connections adds."""
    clients = []

    def connect(number):
        for _ in range(number):
            client = RawClient(endpoint)
            client.login(application_name="idle")
            clients.append(client)

    try:
        connect(100)
        before = resident_bytes(process)
        connect(count)
        return (resident_bytes(process) - before) / count
    finally:
        for client in clients:
            client.close()


def idle(peers, figures, options):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, options.connections + 1000)), hard))
    bouncer = peers.bouncers["transaction"]
    theirs = idle_once(bouncer, bouncer.endpoint, options.connections)
    ours = idle_once(peers.router, peers.router.endpoint, options.connections)
    say(f"idle: {ours / 1024:.2f} KiB per connection, pgbouncer {theirs / 1024:.2f} KiB")
    figures.add("idle_connection_memory", ours / 1024, "KiB", "<=", 4)


def micro(peers, figures, options):
    del peers, options
    for figure, programs, pattern, allowed in MICRO:
        times = {}
        for program in sorted(processes.BUILD.glob("*_benchmark")):
            if re.fullmatch(programs, program.name):
                times.update(benchmark_times(program, pattern))
        for name, taken in sorted(times.items()):
            say(f"micro: {name} {taken:.1f} ns")
        if times:
            figures.add(figure, max(times.values()), "ns", "<=", allowed)
        else:
            say(f"micro: no benchmark for {figure} ({programs}, {pattern})")


def benchmark_times(program, pattern):
    """{name: nanoseconds} of the benchmarks whose name matches, medians of five."""
    done = subprocess.run([program, f"--benchmark_filter={pattern}", "--benchmark_format=json", "--benchmark_repetitions=5",
                           "--benchmark_report_aggregates_only=true"], capture_output=True, text=True)
    if done.returncode != 0 or not done.stdout.strip():
        return {}
    return {f"{program.name}/{result['run_name']}": result["cpu_time"] for result in json.loads(done.stdout)["benchmarks"]
            if result.get("aggregate_name") == "median" and result["time_unit"] == "ns"}


SEQUENCE_TABLES = [
    "CREATE TABLE numbered (id bigserial PRIMARY KEY, v int) SHARD BY (id)",
    "CREATE TABLE given (id bigint PRIMARY KEY, v int) SHARD BY (id)",
]
INSERTS = {"value given": "\\set id random(1, 9000000000000000000)\nINSERT INTO given (id, v) VALUES (:id, 1);\n",
           "serial": "INSERT INTO numbered (v) VALUES (1);\n"}


def sequences(peers, figures, options):
    """What a serial column costs an INSERT, with and without blocks of numbers; without a target."""
    del figures
    router = peers.router
    router.endpoint.run(*SEQUENCE_TABLES)
    written = router.file.read_text()
    results = {}
    for number in range(options.rounds):
        for mode in ("simple", "prepared"):  # of pgbench
            for name, block in (("value given", 1), ("serial", 1), ("serial", 100)):
                router.file.write_text(written.replace("[sharding]\n", f"[sharding]\nsequence_block = {block}\n"))
                router.reload()
                script = router.directory / "insert.sql"
                script.write_text(INSERTS[name])
                points_once(router, router.endpoint, mode, script, 1)  # warm up, and the reload is over
                figure = points_once(router, router.endpoint, mode, script, options.seconds)
                results.setdefault((mode, name if name != "serial" else f"serial, block {block}"), []).append(figure)
    router.file.write_text(written)
    router.reload()
    say("INSERT                          tps   of a given value   router's µs")
    for (mode, name), figures_of in results.items():
        tps = median([figure[0] for figure in figures_of])
        base = median([figure[0] for figure in results[mode, "value given"]])
        say(f"{mode:<10}{name:<18}{tps:>7.0f}   {tps / base:>16.2f}   {median([figure[1] for figure in figures_of]):>11.1f}")


PARTS = {"points": points, "heap": heap, "copy": copies, "idle": idle, "micro": micro, "sequences": sequences}


def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="length of one pgbench run")
    parser.add_argument("--rows", type=int, default=5_000_000, help="rows of the COPY")
    parser.add_argument("--connections", type=int, default=5_000, help="idle connections")
    parser.add_argument("--quick", action="store_true", help="a run of a minute that only shows that all works")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.rows, options.connections = 1, 2, 200_000, 500
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {' '.join(unknown)}")
    figures = Figures()
    parts = [PARTS[name] for name in options.parts or PARTS]
    if parts == [micro]:
        micro(None, figures, options)
    else:
        with Peers() as peers:
            for part in parts:
                part(peers, figures, options)
    return 0 if figures.report() else 1


if __name__ == "__main__":
    sys.exit(main())
