#!/usr/bin/env python3
"""What transactions over groups cost, beside one PostgreSQL and pgbouncer in the same run: `./x bench txn`.

  transfer   two keys, mostly on two groups: tps against one server
  tpcb       pgbench's TPC-B with each table sharded by its own key: tps against one server
  one_group  BEGIN, UPDATE, SELECT, COMMIT of one key: tps against pgbouncer
  tpcb_bid   TPC-B with all tables sharded by branch, so that each transaction is of one group: tps against pgbouncer
  check      what a SELECT over four groups pays for not being torn: CPU of all servers, and time of one that takes 2 ms; while no
             transaction over groups is under way, and beside some a second
  sum        sums over four groups beside transfers at half of the highest rate: their times
  deadlock   two transactions that wait for each other on two groups: time until one of them ends

Peers take turns; each figure is the median of the rounds.
"""
import argparse
import contextlib
import re
import statistics
import sys
import threading
import time

import psycopg

from support.figures import Figures, median, say, spread
from support.load import Load
from support.peers import Peers, run_program
from support.pgbench import CLIENTS, measured
from harness.dialect import strip_dialect
from harness.processes import wait_until
from harness.schemas import group_endpoints

ACCOUNTS, BRANCHES = 100_000, 20
CHECKED_BESIDE = 50  # transfers over groups a second, so that few reads find nothing under way
WARM_UP_S = 3  # of an open loop: pools open their connections, and their backends fill their caches
ACCOUNT = "CREATE TABLE account (id int PRIMARY KEY, balance int) SHARD BY (id)"
FEW_ACCOUNTS = [ACCOUNT.replace("account", "few_accounts"), "INSERT INTO few_accounts SELECT i, 1000 FROM generate_series(1, 2000) i"]
TWO_KEYS = f"\\set a random(1, {ACCOUNTS})\n\\set b random(1, {ACCOUNTS})\n"
# pgbench computes the order, so that the statements have plain keys.
TRANSFER = (TWO_KEYS + "\\set low least(:a, :b)\n\\set high greatest(:a, :b)\nBEGIN;\n"
            "UPDATE account SET balance = balance - 1 WHERE id = :low;\n"
            "UPDATE account SET balance = balance + 1 WHERE id = :high;\nCOMMIT;\n")
ONE_GROUP = (f"\\set a random(1, {ACCOUNTS})\nBEGIN;\nUPDATE account SET balance = balance + 1 WHERE id = :a;\n"
             "SELECT balance FROM account WHERE id = :a;\nCOMMIT;\n")


def tpcb_tables(keys):
    """pgbench's tables, each sharded by its key of (branches, tellers, accounts, history)."""
    branches, tellers, accounts, history = keys
    return [
        f"CREATE TABLE pgbench_branches (bid int, bbalance int, filler char(88), PRIMARY KEY (bid)) SHARD BY ({branches})",
        f"CREATE TABLE pgbench_tellers (tid int, bid int, tbalance int, filler char(84), PRIMARY KEY ({with_key('tid', tellers)}))"
        f" SHARD BY ({tellers})",
        f"CREATE TABLE pgbench_accounts (aid int, bid int, abalance int, filler char(84), PRIMARY KEY ({with_key('aid', accounts)}))"
        f" SHARD BY ({accounts})",
        f"CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22)) SHARD BY ({history})",
    ]


def with_key(column, key):
    return column if column == key else f"{key}, {column}"


# pgbench's own transaction; `bid` names the branch where the table is sharded by it.
TPCB = """\\set bid random(1, {branches})
\\set aid 100000 * (:bid - 1) + random(1, 100000)
\\set tid 10 * (:bid - 1) + random(1, 10)
\\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid{and_bid};
SELECT abalance FROM pgbench_accounts WHERE aid = :aid{and_bid};
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid{and_bid};
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;
"""


def on_both(peers, statements):
    peers.router.endpoint.run(*statements)
    peers.direct.endpoint.run(*map(strip_dialect, statements))


def fill_accounts(peers):
    if not peers.direct.endpoint.run("SELECT 1 FROM pg_class WHERE relname = 'account'"):
        on_both(peers, [ACCOUNT])
        for endpoint in (peers.router.endpoint, peers.direct.endpoint):
            with endpoint.connect() as connection, connection.cursor().copy("COPY account FROM STDIN") as copy:
                for number in range(1, ACCOUNTS + 1):
                    copy.write_row((number, 1000))
        for server in [peers.direct, *peers.groups]:
            server.endpoint.run("VACUUM ANALYZE")


def fill_tpcb(peers, keys):
    on_both(peers, ["DROP TABLE IF EXISTS pgbench_branches, pgbench_tellers, pgbench_accounts, pgbench_history", *tpcb_tables(keys)])
    for endpoint in (peers.router.endpoint, peers.direct.endpoint):
        run_program("pgbench", endpoint, "-q", "-i", "-I", "g", "-s", BRANCHES)
    for server in [peers.direct, *peers.groups]:
        server.endpoint.run("VACUUM ANALYZE")


def script_file(peers, name, text):
    path = peers.router.directory / f"{name}.sql"
    path.write_text(text)
    return path


def against(peers, peer, name, text, options, figures, unit, target):
    """The router's tps ÷ the peer's, in turns."""
    script = script_file(peers, name, text)
    for endpoint in (peers.router.endpoint, peer.endpoint):
        measured(endpoint, script, 1)
    ours, theirs = [], []
    for number in range(options.rounds):
        turns = [(ours, peers.router), (theirs, peer)]
        for results, process in turns if number % 2 == 0 else reversed(turns):
            results.append(measured(process.endpoint, script, options.seconds)[0])
    say(f"{name}: {spread(ours)} tps, {unit[2:]} {spread(theirs)}")
    figures.add(f"tps_{name}", median([mine / other for mine, other in zip(ours, theirs)]), unit, ">=", target)
    return median(ours)


def transfer(peers, figures, options):
    fill_accounts(peers)
    against(peers, peers.direct, "transfer", TRANSFER, options, figures, "x_one_server", 0.48)


def tpcb(peers, figures, options):
    fill_tpcb(peers, ("bid", "tid", "aid", "aid"))
    against(peers, peers.direct, "tpcb", TPCB.format(branches=BRANCHES, and_bid=""), options, figures, "x_one_server", 0.44)


def one_group(peers, figures, options):
    fill_accounts(peers)
    against(peers, peers.bouncers["transaction"], "one_group", ONE_GROUP, options, figures, "x_pgbouncer", 0.9)


def tpcb_bid(peers, figures, options):
    fill_tpcb(peers, ("bid", "bid", "bid", "bid"))
    text = TPCB.format(branches=BRANCHES, and_bid=" AND bid = :bid")
    against(peers, peers.bouncers["transaction"], "tpcb_bid", text, options, figures, "x_pgbouncer", 0.85)


def with_check(peers, on):
    """The router's configuration with untorn reads on or off."""
    written = re.sub(r"untorn_reads = \w+\n", "", peers.router.file.read_text())
    peers.router.file.write_text(written.replace("[sharding]\n", f"[sharding]\nuntorn_reads = {str(on).lower()}\n"))
    peers.router.reload()
    admin = peers.router.endpoint.change(database="pgmosaic")
    wait_until(lambda: ("sharding.untorn_reads", str(on).lower()) in [row[:2] for row in admin.run("SHOW CONFIG")], "the reload")


def check(peers, figures, options):
    fill_accounts(peers)
    few = script_file(peers, "few", "SELECT count(*), sum(balance) FROM account WHERE id IN (1, 2, 3, 4, 5, 6, 7, 8);\n")
    many = script_file(peers, "many", "SELECT sum(balance) FROM account WHERE id <= 40000;\n")
    transfers = TRANSFER.replace("account", "few_accounts").replace(str(ACCOUNTS), "2000")
    peers.router.endpoint.run(*FEW_ACCOUNTS)
    for beside, name in ((0, ""), (CHECKED_BESIDE, "_beside_transfers")):
        cpu, times = {True: [], False: []}, {True: [], False: []}
        for number in range(options.rounds):
            for on in (True, False) if number % 2 == 0 else (False, True):
                with_check(peers, on)
                with contextlib.ExitStack() as last:
                    if beside:
                        last.enter_context(Load(peers.router.endpoint, [(1, transfers)], 2, beside, 2 * options.seconds + 3, ("simple",)))
                    cost_of_reads(peers, few, many, options, cpu[on], times[on])
        say(f"check beside {beside} transfers a second: {spread(cpu[True])} µs of CPU, {spread(cpu[False])} without; "
            f"{spread(times[True])} ms, {spread(times[False])} without")
        figures.add(f"cpu_of_the_check{name}", median([on - off for on, off in zip(cpu[True], cpu[False])]), "us", "<=", 60)
        figures.add(f"time_of_the_check_at_2_ms{name}", median([(on / off - 1) * 100 for on, off in zip(times[True], times[False])]),
                    "percent", "<=", 5)
    with_check(peers, True)
    peers.router.endpoint.run("DROP TABLE few_accounts")


def cost_of_reads(peers, few, many, options, cpu, times):
    """Adds the CPU of all servers for a short read over all groups, and the time of a longer one."""
    measured(peers.router.endpoint, few, 1, clients=4)
    cpu.append(measured(peers.router.endpoint, few, options.seconds, clients=4, processes=[peers.router, *peers.groups])[1])
    times.append(1000 / measured(peers.router.endpoint, many, options.seconds, clients=1)[0])


def sums(peers, figures, options):
    """Open loop: pgbench begins a sum when its time has come, whether or not the one before has ended."""
    fill_accounts(peers)
    script = script_file(peers, "transfer", TRANSFER)
    highest = measured(peers.router.endpoint, script, options.seconds)[0]
    seconds = 4 * options.seconds + WARM_UP_S
    peers.router.endpoint.run(*FEW_ACCOUNTS)
    among = TRANSFER.replace("account", "few_accounts").replace(str(ACCOUNTS), "2000")
    with Load(peers.router.endpoint, [(1, among)], CLIENTS, int(highest / 2), seconds + 2, ("simple",)) as writers, \
            Load(peers.router.endpoint, [(1, "SELECT sum(balance) FROM few_accounts;")], 8, 40, seconds, ("simple",)) as readers:
        read, failed = readers.wait()
        written, failed_writes = writers.wait()
    if failed or failed_writes:
        raise RuntimeError("\n".join(failed + failed_writes))
    warm = read[0].begun + WARM_UP_S
    taken = sorted((each.ended - each.begun) * 1000 for each in read if each.begun > warm)
    if not taken:
        raise RuntimeError("no sum came to an end")
    say(f"sum: {len(taken)} beside {len(written) / seconds:.0f} transfers a second of at most {highest:.0f}: median "
        f"{statistics.median(taken):.1f} ms, longest {taken[-1]:.1f} ms")
    figures.add("p99_of_a_sum", taken[int(len(taken) * 0.99)], "ms", "<=", 50)


def deadlock(peers, figures, options):
    fill_accounts(peers)
    groups = group_endpoints(peers.router.endpoint)
    groups.pop("home")
    one, two = (group.run("SELECT min(id) FROM account")[0][0] for _, group in sorted(groups.items())[1:3])
    update, taken = "UPDATE account SET balance = balance WHERE id = %s", []
    for _ in range(2 * options.rounds + 1):
        with peers.router.endpoint.connect() as old, peers.router.endpoint.connect() as young:
            for connection, account in ((old, one), (young, two)):
                connection.execute("BEGIN")
                connection.execute(update, (account,))
            other = threading.Thread(target=old.execute, args=(update, (two,)))
            other.start()
            began = time.monotonic()
            try:
                young.execute(update, (one,))
                raise RuntimeError("no deadlock")
            except psycopg.errors.DeadlockDetected:
                taken.append(time.monotonic() - began)
            other.join()
    say(f"deadlock: {spread(taken)} s")
    figures.add("longest_deadlock", max(taken), "s", "<=", 2)
    figures.add("median_deadlock", median(taken), "s", "<=", 1.2)


PARTS = {"transfer": transfer, "tpcb": tpcb, "one_group": one_group, "tpcb_bid": tpcb_bid, "check": check, "sum": sums,
         "deadlock": deadlock}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="length of one pgbench run")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {' '.join(unknown)}")
    figures = Figures()
    with Peers(poolers=("transaction",), fsync=True) as peers:
        for name in options.parts or PARTS:
            PARTS[name](peers, figures, options)
    return 0 if figures.report() else 1


if __name__ == "__main__":
    sys.exit(main())
