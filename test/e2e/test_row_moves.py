"""Rows that move between groups while others change them, while a group dies, and when there are many of them."""
import collections
import random
import re
import signal
import threading

import psycopg
import pytest

from harness import fsck
from harness.fixtures import SELF_CHECK
from harness.pair import databases
from harness.processes import PATIENCE, wait_until
from harness.raw import SYNC, RawClient, bind, execute, parse
from harness.schemas import group_endpoints, misplaced_rows

ACCOUNTS, BALANCE = 12, 1000
SCHEMA = ("CREATE TABLE acc (region int, id int, balance int NOT NULL, n int NOT NULL DEFAULT 0, PRIMARY KEY (region, id)) "
          "SHARD BY (region)")
ROWS = f"INSERT INTO acc SELECT i * 7, i, {BALANCE} FROM generate_series(1, {ACCOUNTS}) i"
# Others wait crosswise on two groups, or must try again: what PostgreSQL tells clients to repeat.
REPEATED = ("40001", "40P01", "55P03")
EXPLAINED = "EXPLAIN ANALYZE UPDATE acc SET n = n + 1 WHERE id = 7"


@pytest.fixture
def endpoint(router):
    with databases("moves", router) as [made]:
        made.run(SCHEMA, ROWS)
        yield made


def repeat(connection, transaction):
    """Runs a transaction until it commits."""
    while True:
        try:
            with connection.transaction():
                return transaction(connection)
        except psycopg.Error as error:
            if error.sqlstate not in REPEATED:
                raise


def move(rng):
    account, region = rng.randint(1, ACCOUNTS), rng.randint(1, 1000)

    def transaction(connection):
        connection.execute("UPDATE acc SET region = %s WHERE id = %s", [region, account])
    return transaction


def step(rng):
    """An expression over the row, several rows at once."""
    first = rng.randint(1, ACCOUNTS - 2)

    def transaction(connection):
        connection.execute("UPDATE acc SET region = region + 1 WHERE id BETWEEN %s AND %s", [first, first + 2])
    return transaction


def transfer(rng):
    """Does not look whether its rows were there: on one PostgreSQL they are."""
    (low, high), amount = sorted(rng.sample(range(1, ACCOUNTS + 1), 2)), rng.randint(-20, 20)

    def transaction(connection):
        connection.execute("UPDATE acc SET balance = balance - %s, n = n + 1 WHERE id = %s", [amount, low])
        connection.execute("UPDATE acc SET balance = balance + %s, n = n + 1 WHERE id = %s", [amount, high])
    return transaction


def work(endpoint, kind, seed, count, failures, simple=False):
    rng = random.Random(seed)
    try:
        with endpoint.connect(options="-c lock_timeout=300ms") as connection:
            connection.prepare_threshold = None if simple else 0
            for _ in range(count):
                repeat(connection, kind(rng))
    except psycopg.Error as error:
        failures.append(f"{kind.__name__}: {error.sqlstate} {error}")


def complete(endpoint):
    ids = [row[0] for row in endpoint.run("SELECT id FROM acc ORDER BY id")]
    return ids == list(range(1, ACCOUNTS + 1)) and endpoint.run("SELECT sum(balance) FROM acc") == [(ACCOUNTS * BALANCE,)]


def test_transfers_beside_moves(endpoint):
    failures, rounds = [], 120
    kinds = [transfer, transfer, transfer, move, move, step]
    threads = [threading.Thread(target=work, args=(endpoint, kind, seed, rounds, failures, seed % 2 == 0))
               for seed, kind in enumerate(kinds)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert complete(endpoint)
    assert endpoint.run("SELECT sum(n) FROM acc") == [(3 * rounds * 2,)], "a transfer has missed a row"
    assert misplaced_rows(endpoint) == [] and fsck.differences(endpoint) == []


def test_counts_without_transactions(endpoint):
    """Statements of their own: they are tried again by the router, so that hardly any fails; none misses its row."""
    counted, rounds = [], 100
    over = threading.Event()

    def count(seed):
        rng = random.Random(seed)
        with endpoint.connect() as connection:
            for _ in range(rounds):
                try:
                    counted.append(connection.execute("UPDATE acc SET n = n + 1 WHERE id = %s", [rng.randint(1, 3)]).rowcount)
                except psycopg.errors.SerializationFailure:
                    pass

    def keep_moving():
        rng = random.Random(99)
        with endpoint.connect() as connection:
            while not over.is_set():
                repeat(connection, lambda c: c.execute("UPDATE acc SET region = %s WHERE id = %s",
                                                       [rng.randint(1, 1000), rng.randint(1, 3)]))

    mover = threading.Thread(target=keep_moving)
    counters = [threading.Thread(target=count, args=(seed,)) for seed in range(2)]
    for thread in [mover, *counters]:
        thread.start()
    for thread in counters:
        thread.join()
    over.set()
    mover.join()
    assert set(counted) == {1} and len(counted) > rounds
    assert endpoint.run("SELECT sum(n) FROM acc") == [(len(counted),)]


def somebody_waits(endpoint):
    question = ("SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted "
                "AND l.locktype = 'transactionid' AND a.datname = current_database()")
    return any(server.run(question) != [(0,)] for server in group_endpoints(endpoint).values())


def places(endpoint):
    """{region: (group, leaf)}"""
    endpoint.run("CREATE TABLE place (region int) SHARD BY (region) WITH (colocate_with = 'acc')",
                 "INSERT INTO place SELECT generate_series(1, 100)")
    found = {region: (name, leaf) for name, server in group_endpoints(endpoint).items() if name != "home"
             for region, leaf in server.run("SELECT region, tableoid FROM place")}
    endpoint.run("DROP TABLE place")
    return found


def other_region(endpoint, same_group):
    """One that would move the row with id 7 to another group, or to another leaf of its group."""
    where = places(endpoint)
    group, leaf = where[49]
    return next(region for region, (its_group, its_leaf) in sorted(where.items())
                if (its_group == group) == same_group and its_leaf != leaf)


def beside_a_move(endpoint, sql, begin=False, same_group=False):
    """What a statement says that waits for a row which then goes to another group."""
    said, region = [], other_region(endpoint, same_group)

    def run(connection):
        try:
            cursor = connection.execute(sql)
            said.append(cursor.fetchall() if sql.startswith("EXPLAIN") else cursor.rowcount)
        except psycopg.Error as error:
            said.append(error.sqlstate)

    with endpoint.connect() as mover, endpoint.connect() as other:
        mover.execute("BEGIN")
        mover.execute("UPDATE acc SET region = %s WHERE id = 7", [region])
        if begin:
            other.execute("BEGIN")
        thread = threading.Thread(target=run, args=(other,))
        thread.start()
        wait_until(lambda: somebody_waits(endpoint), "the statement to wait")
        mover.execute("COMMIT")
        thread.join()
        if begin:
            other.execute("ROLLBACK")
    return said[0], region


@pytest.mark.skipif(SELF_CHECK, reason="names the groups")
@pytest.mark.parametrize("sql, change", [
    ("UPDATE acc SET n = n + 1 WHERE id = 7", lambda region: (region, BALANCE, 1)),
    ("UPDATE acc SET region = region + 1, n = 5 WHERE id = 7", lambda region: (region + 1, BALANCE, 5)),
    ("DELETE FROM acc WHERE id = 7", lambda region: None),
])
@pytest.mark.parametrize("same_group", [False, True])
def test_a_statement_that_waits_for_a_row_that_moves(endpoint, sql, change, same_group):
    said, region = beside_a_move(endpoint, sql, same_group=same_group)
    assert said == 1
    wanted = change(region)
    assert endpoint.run("SELECT region, balance, n FROM acc WHERE id = 7") == ([wanted] if wanted else [])


@pytest.mark.skipif(SELF_CHECK, reason="names the groups")
@pytest.mark.parametrize("sql", ["UPDATE acc SET n = n + 1 WHERE id = 7", "UPDATE acc SET n = n + 1 WHERE id = 7 RETURNING n",
                                 "SELECT n FROM acc WHERE id = 7 FOR UPDATE", EXPLAINED])
@pytest.mark.parametrize("same_group", [False, True])
def test_a_transaction_that_waits_for_a_row_that_moves(endpoint, sql, same_group):
    """It may have done more before: it is told, as by one PostgreSQL with partitions."""
    said, region = beside_a_move(endpoint, sql, begin=True, same_group=same_group)
    assert said == "40001"
    assert endpoint.run("SELECT region, n FROM acc WHERE id = 7") == [(region, 0)]


@pytest.mark.skipif(SELF_CHECK, reason="names the groups")
@pytest.mark.parametrize("same_group", [False, True])
@pytest.mark.parametrize("sql", [EXPLAINED, f"{EXPLAINED} RETURNING n"])
def test_explain_analyze_waits_for_a_row_that_moves(endpoint, sql, same_group):
    """Its client hears of one attempt only."""
    lines, region = beside_a_move(endpoint, sql, same_group=same_group)
    groups = len(group_endpoints(endpoint)) - 1
    texts = [line for (line,) in lines]
    assert len([line for line in texts if "->  Group" in line]) == groups
    assert endpoint.run("SELECT region, balance, n FROM acc WHERE id = 7") == [(region, BALANCE, 1)]


def test_a_statement_by_the_old_key_finds_nothing(endpoint):
    said, region = beside_a_move(endpoint, "UPDATE acc SET n = n + 1 WHERE region = 49 AND id = 7")
    assert said == 0
    assert endpoint.run("SELECT region, n FROM acc WHERE id = 7") == [(region, 0)]


def test_row_limited_portals(endpoint):
    client = RawClient(endpoint)
    client.login()
    client.send(parse("UPDATE acc SET region = region + 1000 RETURNING id"), bind(), execute(rows=5), execute(rows=5),
                execute(rows=5), SYNC)
    kinds = "".join(kind for kind, _ in client.read_until("Z") if kind not in "SN")
    assert kinds == "12" + "DDDDDs" * 2 + "DDCZ"
    assert complete(endpoint) and endpoint.run("SELECT min(region) > 1000 FROM acc") == [(True,)]
    client.close()


def test_a_move_can_be_cancelled(endpoint):
    with endpoint.connect() as holder, endpoint.connect() as mover:
        holder.execute("BEGIN")
        holder.execute("UPDATE acc SET n = 1 WHERE id = 3")
        timer = threading.Timer(0.5 * PATIENCE, mover.cancel)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            mover.execute("UPDATE acc SET region = region + 1000")
        timer.join()
        holder.execute("COMMIT")
        assert mover.execute("UPDATE acc SET region = region + 1000").rowcount == ACCOUNTS
    assert complete(endpoint)


@pytest.mark.skipif(SELF_CHECK, reason="what the router refuses")
def test_text_in_another_encoding(endpoint):
    endpoint.run("CREATE TABLE words (k int PRIMARY KEY, v text) SHARD BY (k)",
                 "INSERT INTO words SELECT i, 'plain' FROM generate_series(1, 20) i",
                 "INSERT INTO words SELECT i, 'ü' FROM generate_series(21, 40) i")
    with endpoint.connect(client_encoding="LATIN1") as connection:
        assert connection.execute("UPDATE words SET k = k + 1000 WHERE v = 'plain'").rowcount == 20
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="client_encoding"):
            connection.execute("UPDATE words SET k = k + 1000 WHERE k < 1000")
    assert endpoint.run("SELECT v, count(*), min(k), max(k) FROM words GROUP BY v ORDER BY v") == [
        ("plain", 20, 1001, 1020), ("ü", 20, 21, 40)]


@pytest.mark.skipif(SELF_CHECK, reason="about EXPLAIN of the router")
def test_explain_says_that_rows_move(endpoint):
    words = "Rows that then belong to another group move there"
    assert (words,) in endpoint.run("EXPLAIN UPDATE acc SET region = region + 1")
    assert (words,) not in endpoint.run("EXPLAIN UPDATE acc SET region = 7 WHERE region = 7")


@pytest.mark.skipif(SELF_CHECK, reason="about several servers")
@pytest.mark.parametrize("victim", [0, 2])
def test_a_group_dies_in_the_middle(make_server, make_router, victim):
    servers = [make_server(f"g{number}") for number in (1, 2, 3)]
    endpoint = make_router(servers).endpoint
    endpoint.run(SCHEMA, ROWS)
    over, done = threading.Event(), []

    def keep_working(kind, seed):
        rng = random.Random(seed)
        while not over.is_set():
            try:
                with endpoint.connect(options="-c lock_timeout=300ms") as connection:
                    while not over.is_set():
                        repeat(connection, kind(rng))
                        done.append(kind)
            except psycopg.Error:
                pass

    threads = [threading.Thread(target=keep_working, args=(kind, seed)) for seed, kind in enumerate([transfer, move, step])]
    for thread in threads:
        thread.start()
    for _ in range(2):
        wanted = len(done) + 60
        wait_until(lambda: len(done) > wanted, "work to be done", timeout_s=60)
        servers[victim].stop(signal.SIGQUIT)  # PostgreSQL's own crash: nothing is finished, nothing written
        servers[victim].start()
    wanted = len(done) + 30
    wait_until(lambda: len(done) > wanted, "work to go on", timeout_s=60)
    over.set()
    for thread in threads:
        thread.join()
    wait_until(lambda: endpoint.run("SELECT count(*) FROM pg_prepared_xacts") == [(0,)], "recovery")
    assert complete(endpoint)
    assert misplaced_rows(endpoint) == [] and fsck.differences(endpoint) == []
    endpoint.run("UPDATE acc SET region = region + 1")  # no lock is left


def peak_kib(process):
    with open(f"/proc/{process.pid}/status") as status:
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1])


@pytest.mark.skipif(SELF_CHECK, reason="about the router's memory")
def test_many_rows_are_moved_in_parts(make_server, make_router):
    rows, width = 60000, 2000
    router = make_router([make_server("g1"), make_server("g2")])
    endpoint = router.endpoint
    endpoint.run("CREATE TABLE big (k int PRIMARY KEY, v text) SHARD BY (k)",
                 "INSERT INTO big SELECT i, '' FROM generate_series(1, 20000) i",
                 "INSERT INTO big SELECT i, '' FROM generate_series(20001, 40000) i",
                 "INSERT INTO big SELECT i, '' FROM generate_series(40001, 60000) i",
                 f"UPDATE big SET v = repeat(md5(k::text), {width // 32})")
    facts = "SELECT count(*), max(k) - min(k) + 1, sum(k), sum(length(v)) FROM big"
    before, peak = endpoint.run(facts)[0], peak_kib(router)
    with endpoint.connect() as connection:
        assert connection.execute("UPDATE big SET k = k + 100000").rowcount == rows
    count, different, keys, bytes_ = before
    assert endpoint.run(facts)[0] == (count, different, keys + 100000 * rows, bytes_)
    assert count == different == rows and bytes_ > rows * (width - 32)
    assert endpoint.run("SELECT count(*) FROM big WHERE v <> repeat(md5((k - 100000)::text), length(v) / 32)") == [(0,)]
    assert peak_kib(router) - peak < 40 * 1024, "the router held the rows"


def test_children_follow_the_key_of_their_parent(endpoint):
    """ON DELETE CASCADE must not take children whose parent only moves to another shard."""
    endpoint.run("CREATE TABLE parent (k int PRIMARY KEY) SHARD BY (k)",
                 "CREATE TABLE child (k int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE, id int) SHARD BY (k)",
                 "INSERT INTO parent SELECT generate_series(1, 20)",
                 "INSERT INTO child SELECT 1 + i % 20, i FROM generate_series(1, 60) i")
    outcomes = collections.Counter()
    with endpoint.connect() as connection:
        for old in range(1, 21):
            new = old + 100
            try:
                connection.execute(f"UPDATE parent SET k = {new} WHERE k = {old}")
                outcome, there = "moved", new
            except psycopg.errors.FeatureNotSupported:
                outcome, there = "refused", old
            outcomes[outcome] += 1
            assert connection.execute("SELECT count(*) FROM child WHERE k = %s", [there]).fetchone() == (3,), outcome
            assert connection.execute("SELECT count(*) FROM child").fetchone() == (60,), outcome
    # Twenty keys over four groups and many shards: some stay in a group with another shard, some would leave it.
    assert outcomes["moved"] > 0 and outcomes["refused"] > 0
