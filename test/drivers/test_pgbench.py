"""pgbench in all its modes: its own script, point selects, and the balance at the end."""
import os
import re
import subprocess

import pytest

from harness.dialect import strip_dialect
from harness.fixtures import SELF_CHECK
from harness.pair import databases
from harness.processes import PATIENCE, postgres_program

ACCOUNTS, BRANCHES, TELLERS = 2000, 4, 40
TABLES = [
    "CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88)) SHARD BY (bid)",
    "CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84)) SHARD BY (tid)",
    "CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84)) SHARD BY (aid)",
    "CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22)) SHARD BY (aid)",
]


def fill(side, tables):
    side.run(*(strip_dialect(sql) if SELF_CHECK else sql for sql in tables))
    with side.connect() as connection:
        for name, count in (("branches", BRANCHES), ("tellers", TELLERS), ("accounts", ACCOUNTS)):
            columns = {"branches": "bid, bbalance", "tellers": "tid, bid, tbalance", "accounts": "aid, bid, abalance"}[name]
            with connection.cursor().copy(f"COPY pgbench_{name} ({columns}) FROM STDIN") as copy:
                for number in range(1, count + 1):
                    copy.write_row((number, 0) if name == "branches" else (number, 1 + number % BRANCHES, 0))


def pgbench(side, *arguments, ok=True):
    done = subprocess.run([str(postgres_program("pgbench")), *arguments], env={**os.environ, **side.environment()}, text=True,
                          timeout=180 * PATIENCE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert not ok or done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def side(router):
    with databases("pgbench", router) as [made]:
        fill(made, TABLES)
        yield made


@pytest.fixture(scope="module")
def side_with_copies(router):
    """Branches and tellers are reference tables: every transaction writes to all groups, and all want the same rows."""
    tables = [re.sub(r"SHARD BY \((bid|tid)\)", "WITH (table_type = 'reference')", sql) for sql in TABLES]
    with databases("pgbench_copies", router) as [made]:
        fill(made, tables)
        yield made


SCALE_OF_OURS = ["-n", "-D", "scale=1"]


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
@pytest.mark.parametrize("layout", ["side", "side_with_copies"])
def test_modes(request, layout, tmp_path, mode):
    side = request.getfixturevalue(layout)
    before = side.run("SELECT count(*) FROM pgbench_history")[0][0]
    script = tmp_path / "script.sql"
    script.write_text(f"""\\set aid random(1, {ACCOUNTS})
\\set bid random(1, {BRANCHES})
\\set tid random(1, {TELLERS})
\\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;
""")
    said = pgbench(side, *SCALE_OF_OURS, "-M", mode, "-c", "4", "-j", "2", "-t", "50", "-f", str(script))
    assert re.search(r"number of transactions actually processed: 200/200", said), said
    assert side.run("SELECT count(*) FROM pgbench_history")[0][0] == before + 200
    sums = [side.run(f"SELECT coalesce(sum({column}), 0) FROM pgbench_{table}")[0][0] for column, table in
            (("abalance", "accounts"), ("tbalance", "tellers"), ("bbalance", "branches"), ("delta", "history"))]
    assert len(set(sums)) == 1


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_point_selects(side, tmp_path, mode):
    script = tmp_path / "select.sql"
    script.write_text(f"\\set aid random(1, {ACCOUNTS})\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n")
    said = pgbench(side, "-n", "-M", mode, "-c", "8", "-j", "2", "-t", "200", "-f", str(script))
    assert re.search(r"number of failed transactions: 0 ", said) and "1600/1600" in said


def test_pipeline(side, tmp_path):
    script = tmp_path / "pipeline.sql"
    script.write_text("\\startpipeline\n" + "".join(
        f"SELECT abalance FROM pgbench_accounts WHERE aid = {number};\n" for number in range(1, 21)) + "\\endpipeline\n")
    for mode in ("extended", "prepared"):
        assert "100/100" in pgbench(side, "-n", "-M", mode, "-c", "4", "-t", "25", "-f", str(script))


def test_reconnecting_for_each_transaction(side):
    said = pgbench(side, "-n", "-C", "-c", "4", "-t", "10", "-S", "-s", "1", ok=False)
    assert "40/40" in said


def own_tables(side):
    pgbench(side, "-i", "-s", "1", "-q")
    for mode in ("simple", "extended", "prepared"):
        assert "80/80" in pgbench(side, "-n", "-M", mode, "-c", "4", "-t", "20")
        assert "80/80" in pgbench(side, "-n", "-M", mode, "-c", "4", "-t", "20", "-S")
    assert side.run("SELECT count(*) FROM pgbench_accounts") == [(100000,)]
    assert side.run("SELECT count(*) FROM pgbench_history") == [(240,)]


def test_its_own_tables(router):
    """`pgbench -i` as users type it: local tables, its built-in scripts."""
    with databases("pgbench_own", router) as [side]:
        own_tables(side)


def test_its_own_tables_sharded(make_server, make_router):
    servers = [make_server(f"g{number}") for number in (1, 2)]
    side = make_router(servers, settings={"sharding": {"default_table_type": "sharded"}}).endpoint
    own_tables(side)
    assert side.run("SELECT table_name FROM pgmosaic.tables WHERE table_type = 'sharded' ORDER BY 1") == [
        ("pgbench_accounts",), ("pgbench_branches",), ("pgbench_history",), ("pgbench_tellers",)]
