"""currval and lastval of sessions that share backends, and numbers that many sessions draw at once.

PGMOSAIC_SEED starts at another seed; a failure names the seed and the statement.
"""
import itertools
import os
import random
import threading

import pytest

from harness.dialect import strip_dialect
from harness.pair import databases
from harness.wire import Session, Strictness, all_differences

FIRST_SEED = int(os.environ.get("PGMOSAIC_SEED", "1"))
TABLES = ["CREATE TABLE here (id serial PRIMARY KEY, v int)",
          "CREATE TABLE line (id serial PRIMARY KEY, v int) SHARD BY (id)",
          "CREATE TABLE kind (id serial PRIMARY KEY, v int) WITH (table_type = 'reference')",
          "CREATE TABLE child (line_id bigint, v int) SHARD BY (line_id)",
          "CREATE SEQUENCE s"]
SEQUENCES = ["here_id_seq", "line_id_seq", "kind_id_seq", "s"]
SAME = Strictness(ordered=False, position=False)


@pytest.fixture
def servers(make_server):
    return [make_server(f"g{number}") for number in (1, 2)]


def steps(choice, thousands):
    """The statements of one step of one session: what it leaves open, it closes."""
    def draw():
        return choice([f"INSERT INTO {choice(['here', 'line', 'kind'])} (v) VALUES (1)",
                       f"INSERT INTO {choice(['here', 'line', 'kind'])} (v) VALUES (1), (2) RETURNING id",
                       f"SELECT nextval('{choice(SEQUENCES)}')",
                       f"SELECT setval('{choice(SEQUENCES)}', {1000 * next(thousands)})",
                       f"INSERT INTO here (v) SELECT 1 WHERE {choice(['true', 'false'])}",
                       f"INSERT INTO here (v) VALUES (nextval('{choice(SEQUENCES)}') / 0)"])

    def ask():
        return choice(["SELECT lastval()",
                       f"SELECT currval('{choice(SEQUENCES)}')",
                       f"SELECT nextval('s'), currval('{choice(SEQUENCES)}')",
                       "INSERT INTO child VALUES (currval('line_id_seq'), 1)",
                       "SELECT count(*) FROM child WHERE line_id = currval('line_id_seq')",
                       f"UPDATE here SET v = lastval() WHERE id < currval('{choice(SEQUENCES)}')"])

    kind = choice(["draw", "draw", "ask", "ask", "ask", "block", "discard"])
    if kind == "draw":
        return [draw()]
    if kind == "ask":
        return [ask()]
    if kind == "discard":
        return [choice(["DISCARD SEQUENCES", "DISCARD ALL", "SELECT 1", "SELECT 2"])]
    return ["BEGIN", draw(), ask(), draw(), choice(["COMMIT", "ROLLBACK"])]


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + 2))
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_sessions_on_few_backends(servers, make_router, oracle, mode, seed):
    sessions = 5
    router = make_router(servers, settings={"pool": {"mode": mode, "size_per_group": 1 if mode == "transaction" else 8}})
    pick = random.Random(seed)
    with databases(f"numbers_{mode}_{seed}", router.endpoint, oracle) as (ours, theirs):
        for sql in TABLES:
            ours.run(sql)
            theirs.run(strip_dialect(sql))
        # PostgreSQL asks nothing for a WHERE without rows; the router does, before it knows.
        for side in (ours, theirs):
            side.run("INSERT INTO child VALUES (-1, 1)")
        pairs = [(Session(ours), Session(theirs)) for _ in range(sessions)]
        asked = told = 0
        thousands = itertools.count(1)  # no number twice: a row that fails leaves the rest of its statement undrawn
        history = [[] for _ in pairs]
        for number in range(250):
            who = pick.randrange(sessions)
            if os.environ.get("TRACE"): print("session", who)
            for sql in steps(pick.choice, thousands):
                protocol = pick.choice(["simple", "extended"])
                history[who].append(sql)
                if os.environ.get("TRACE"): print(protocol, sql)
                answers = [getattr(session, protocol)(sql) for session in pairs[who]]
                found = all_differences(*answers, SAME)
                assert not found, f"seed {seed}, step {number}, session {who}, {protocol}: {history[who][-12:]}\n{found}"
                asked += "val(" in sql and "nextval" not in sql
                told += "val(" in sql and "nextval" not in sql and not answers[0][0].sqlstate
        for pair in pairs:
            for session in pair:
                session.close()
    assert asked / 4 < told < asked, "most questions have no answer, or all"


def test_numbers_are_unique(router):
    """Many sessions draw from one sequence in all the ways there are: no number is given out twice."""
    with databases("numbers_unique", router) as (ours,):
        for sql in TABLES:
            ours.run(sql)
        ours.run("ALTER TABLE line ALTER id SET DEFAULT nextval('s')", "ALTER TABLE here ALTER id SET DEFAULT nextval('s')",
                 "ALTER TABLE kind ALTER id SET DEFAULT nextval('s')")
        drawn, failures = [], []

        def client(number):
            try:
                session = Session(ours)
                for turn in range(60):
                    table = ("here", "line", "kind")[(turn + number) % 3]
                    if turn % 4 == 3:
                        rows = session.simple("SELECT nextval('s')")[0].rows
                    elif turn % 4 == 2:
                        rows = session.simple(f"INSERT INTO {table} (v) VALUES (1), (2) RETURNING id")[0].rows
                    else:
                        assert session.simple(f"INSERT INTO {table} (v) VALUES (1)")[0].sqlstate == ""
                        rows = session.extended("SELECT currval('s')")[0].rows
                        assert rows == session.simple("SELECT lastval()")[0].rows
                    assert rows
                    drawn.extend(int(row[0]) for row in rows)
                session.close()
            except Exception as error:  # of a thread: shown by the test
                failures.append(error)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures
        assert len(drawn) == len(set(drawn)) == 8 * 75
        assert sorted(drawn) == list(range(1, len(drawn) + 1))


def test_a_lost_backend_takes_its_numbers_along(servers, make_router):
    """What a transaction drew on a connection that broke is unknown: no older number is told in its place."""
    router = make_router(servers, settings={"pool": {"size_per_group": 2}})
    router.endpoint.run(*TABLES)
    session = Session(router.endpoint)
    session.simple("INSERT INTO here (v) VALUES (1)")
    assert session.simple("SELECT lastval()")[0].rows == [(b"1",)]
    session.simple("BEGIN")
    session.simple("INSERT INTO here (v) VALUES (1)")
    servers[0].endpoint.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'")
    assert session.simple("SELECT 1")[0].sqlstate != ""
    session.simple("ROLLBACK")
    assert session.simple("SELECT lastval()")[0].sqlstate == "55000"
    assert session.simple("SELECT currval('here_id_seq')")[0].sqlstate == "55000"
    session.simple("INSERT INTO here (v) VALUES (1)")
    assert session.simple("SELECT lastval()")[0].rows == [(b"3",)]
    session.close()


def test_who_leaves_takes_its_numbers_along(servers, make_router):
    """The reading of a number that the client's end interrupts has not made the backend forget it."""
    router = make_router(servers, settings={"pool": {"size_per_group": 1}})
    router.endpoint.run(*TABLES)
    for number in range(150):
        leaves = Session(router.endpoint)
        leaves.simple("INSERT INTO here (v) VALUES (1)")
        leaves.close()
        stays = Session(router.endpoint)
        if number % 2:
            stays.simple("CREATE TEMP TABLE mine (a int)")
        answers = [stays.simple("SELECT lastval()")[0], stays.extended("SELECT currval('here_id_seq')")[0]]
        assert [answer.sqlstate for answer in answers] == ["55000", "55000"], number
        stays.close()
