"""sharding.sequence_block: the router takes numbers of a sequence in blocks. None is given out twice, whatever changes the
sequence; rights and currval are as without blocks."""
import collections
import signal
import threading

import pytest

from harness.cluster import PostgresServer, Router
from harness.pair import databases
from harness.processes import wait_until
from harness.wire import Session

TABLES = ["CREATE TABLE line (id serial PRIMARY KEY, v int) SHARD BY (id)",
          "CREATE TABLE kind (id serial PRIMARY KEY, v int) WITH (table_type = 'reference')",
          "CREATE TABLE note (k int, n bigint GENERATED ALWAYS AS IDENTITY, PRIMARY KEY (k, n)) SHARD BY (k)"]


def blocks_of(size, **pool):
    return {"sharding": {"sequence_block": size, "key_notices": False}, **({"pool": pool} if pool else {})}


@pytest.fixture(scope="module")
def servers():
    started = [PostgresServer(f"g{number}").start() for number in (1, 2)]
    yield started
    for server in started:
        server.stop()


@pytest.fixture(scope="module")
def blocks_router(servers):
    router = Router(servers, settings=blocks_of(100)).start()
    yield router
    router.stop()


@pytest.fixture
def hundred(blocks_router, servers):
    """A database of a router that takes a hundred numbers at once, the home's own, and a session of the superuser's."""
    with databases("blocks", blocks_router.endpoint) as (side,):
        side.run(*TABLES)
        session = Session(side)
        yield side, servers[0].endpoint.change(database=side.database), session
        session.close()


def one(session, sql, **more):
    """The only value of the answer, or its SQLSTATE."""
    answer = session.simple(sql, **more)[-1]
    return answer.sqlstate or int(answer.rows[0][0])


def counted_to(home, sequence):
    return home.run(f"SELECT last_value FROM {sequence}")[0][0]


def insert(session, table="line", values="(1)"):
    column, number = ("k", "n") if table == "note" else ("v", "id")
    return one(session, f"INSERT INTO {table} ({column}) VALUES {values} RETURNING {number}")


def test_a_block_is_used_up_before_the_home_is_asked(hundred):
    _, home, session = hundred
    for table, sequence in (("line", "line_id_seq"), ("kind", "kind_id_seq"), ("note", "note_n_seq")):
        assert [insert(session, table) for _ in range(3)] == [1, 2, 3]
        assert counted_to(home, sequence) == 100
        rows = session.extended(f"INSERT INTO {table} ({'k' if table == 'note' else 'v'}) SELECT 1 WHERE false")
        assert not rows[-1].sqlstate
        many = ", ".join(["(1)"] * 250)
        column = "n" if table == "note" else "id"
        rows = session.simple(f"INSERT INTO {table} ({'k' if table == 'note' else 'v'}) VALUES {many} RETURNING {column}")[0].rows
        assert [int(row[0]) for row in rows] == list(range(4, 254))
        assert insert(session, table) == 254
    # A session of another role and one that gives parameters.
    rows = session.extended("INSERT INTO line (v) VALUES ($1), ($2) RETURNING id", ["7", None])[-1].rows
    assert rows == [(b"255",), (b"256",)]
    assert one(session, "SELECT count(*) FROM line") == 256


def test_numbers_are_unique(blocks_router):
    """Sixteen sessions in two databases, and a router that is killed between."""
    router = blocks_router
    with databases("blocks_a", router.endpoint) as (first,), databases("blocks_b", router.endpoint) as (second,):
        for side in (first, second):
            side.run(*TABLES)
        given, failures = collections.defaultdict(list), []

        def client(number):
            try:
                side = (first, second)[number % 2]
                session = Session(side)
                for turn in range(60):
                    table = ("line", "kind", "note")[(turn + number) % 3]
                    column, names = ("n", "k") if table == "note" else ("id", "v")
                    if turn % 10 == 9:
                        session.simple("BEGIN")
                    rows = "(1)" if turn % 4 else "(1), (2), (3)"
                    ask = session.extended if turn % 2 else session.simple
                    answer = ask(f"INSERT INTO {table} ({names}) VALUES {rows} RETURNING {column}")[-1]
                    assert not answer.sqlstate, answer
                    given[number % 2, table] += [int(row[0]) for row in answer.rows]
                    told = session.simple("SELECT lastval()")[0].rows
                    assert told == [answer.rows[-1]]
                    if turn % 10 == 9:
                        session.simple("ROLLBACK")
                session.close()
            except Exception as error:  # of a thread: shown by the test
                failures.append(error)

        for round_ in range(2):
            threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not failures, failures
            if round_ == 0:
                router.stop(signal.SIGKILL)
                router.start()
        assert len(given) == 6
        for numbers in given.values():
            assert len(numbers) == len(set(numbers))
        assert sum(map(len, given.values())) == 2 * 16 * (45 + 15 * 3)


def test_changed_sequences(hundred):
    """What sets or replaces a sequence takes effect at once, in other sessions, too."""
    endpoint, home, session = hundred
    other = Session(endpoint)
    assert insert(session) == 1
    session.simple("ALTER SEQUENCE line_id_seq RESTART WITH 1000")
    assert (insert(other), insert(session)) == (1000, 1001)
    assert one(other, "SELECT setval('line_id_seq', 5000)") == 5000
    assert (insert(session), insert(other)) == (5001, 5002)
    session.simple("DO $$ BEGIN PERFORM setval('line_id_seq', 6000); END $$")
    assert (insert(other), insert(session)) == (6001, 6002)
    session.simple("TRUNCATE line RESTART IDENTITY")
    assert (insert(other), insert(session)) == (1, 2)
    session.simple("ALTER TABLE note ALTER n RESTART WITH 70")
    assert (insert(other, "note"), insert(session, "note")) == (70, 71)
    session.simple("ALTER TABLE note ALTER n SET INCREMENT BY -1")
    assert insert(other, "note") < 71 + 200
    assert insert(other, "note") == insert(session, "note") + 1
    session.simple("DROP TABLE line")
    session.simple(TABLES[0])
    assert (insert(other), insert(session)) == (1, 2)
    other.close()


def test_a_transaction_that_changes_a_sequence(hundred):
    """It counts by the sequence as it sees it; others by theirs, before and after."""
    endpoint, _, session = hundred
    other = Session(endpoint)
    assert insert(session) == 1
    for change in ("TRUNCATE line RESTART IDENTITY", "ALTER SEQUENCE line_id_seq RESTART"):
        session.simple("BEGIN")
        session.simple("DELETE FROM line")
        assert not session.simple(change)[0].sqlstate
        assert [insert(session), insert(session)] == [1, 2]
        session.simple("ROLLBACK")
        assert insert(other) not in (1, 2)
        assert insert(session) not in (1, 2)
    session.simple("BEGIN")
    session.simple("TRUNCATE line RESTART IDENTITY")
    assert [insert(session), insert(session)] == [1, 2]
    session.simple("COMMIT")
    assert [insert(other), insert(session)] == [3, 4]
    session.simple("BEGIN")
    session.simple("CREATE TABLE made (id serial PRIMARY KEY, v int) SHARD BY (id)")
    assert [insert(session, "made"), insert(session, "made")] == [1, 2]
    session.simple("ROLLBACK")
    session.simple("CREATE TABLE made (id serial PRIMARY KEY, v int) SHARD BY (id)")
    assert [insert(session, "made"), insert(other, "made")] == [1, 2]
    other.close()


def test_rolled_back_numbers_do_not_come_back(hundred):
    _, _, session = hundred
    session.simple("BEGIN")
    assert insert(session) == 1
    session.simple("SAVEPOINT a")
    assert insert(session) == 2
    session.simple("ROLLBACK TO a")
    assert insert(session) == 3
    session.simple("ROLLBACK")
    assert insert(session) == 4
    assert one(session, "INSERT INTO line (v) VALUES (1 / 0) RETURNING id") == "22012"
    assert insert(session) == 6


def test_currval_and_lastval(hundred):
    """From the block, from the home, and both within one transaction."""
    endpoint, _, session = hundred
    other = Session(endpoint)
    assert one(other, "SELECT lastval()") == "55000"
    for begin, end in (("SELECT 1", "SELECT 1"), ("BEGIN", "COMMIT"), ("BEGIN", "ROLLBACK")):
        session.simple(begin)
        for _ in range(2):
            number = insert(session)
            assert one(session, "SELECT currval('line_id_seq')") == one(session, "SELECT lastval()") == number
            drawn = one(session, "SELECT nextval('line_id_seq')")
            assert one(session, "SELECT currval('line_id_seq')") == one(session, "SELECT lastval()") == drawn
            of_kind = insert(session, "kind")
            assert one(session, "SELECT currval('line_id_seq')") == drawn
            assert one(session, "SELECT lastval()") == of_kind
            number = insert(session)
            assert one(session, "SELECT currval('kind_id_seq')") == of_kind
            assert one(session, "SELECT lastval()") == number
        session.simple(end)
        assert one(session, "SELECT currval('line_id_seq')") == one(session, "SELECT lastval()") == number
        assert one(other, "SELECT lastval()") == one(other, "SELECT currval('line_id_seq')") == "55000"
    session.simple("DISCARD SEQUENCES")
    assert one(session, "SELECT lastval()") == "55000"
    other.close()


def test_rights(hundred):
    """Of each role, though another has filled a block; and those of now, not of when it was filled."""
    endpoint, _, session = hundred
    endpoint.run("CREATE ROLE clerk LOGIN PASSWORD 'clerk'", "GRANT INSERT, SELECT ON line, note TO clerk")
    clerk = Session(endpoint.change(user="clerk", password="clerk"))
    assert insert(session) == 1
    assert insert(clerk) == "42501"
    assert insert(clerk, "note") == 1
    session.simple("GRANT USAGE ON SEQUENCE line_id_seq TO clerk")
    number = insert(clerk)
    assert insert(clerk) == number + 1
    session.simple("BEGIN")
    session.simple("REVOKE ALL ON SEQUENCE line_id_seq FROM clerk")
    session.simple("SET LOCAL ROLE clerk")
    assert insert(session) == "42501"
    session.simple("COMMIT")
    assert insert(clerk) > number + 1
    session.simple("REVOKE ALL ON SEQUENCE line_id_seq FROM clerk")
    assert insert(clerk) == "42501"
    session.simple("GRANT USAGE ON SEQUENCE line_id_seq TO clerk")
    assert insert(clerk) > number + 1
    session.simple("DO $$ BEGIN REVOKE ALL ON SEQUENCE line_id_seq FROM clerk; END $$")
    assert insert(clerk) == "42501"
    clerk.simple("BEGIN")
    assert insert(clerk, "note") > 1
    assert insert(clerk) == "42501"
    clerk.simple("ROLLBACK")
    session.simple("SET ROLE clerk")
    assert insert(session) == "42501"
    session.simple("RESET ROLE")
    session.simple("REVOKE INSERT ON note FROM clerk")
    assert insert(clerk, "note") == "42501"
    assert insert(session, "note") > 2
    clerk.close()


def test_ends_of_sequences(hundred):
    """A block ends where its sequence does; errors are PostgreSQL's."""
    _, _, session = hundred
    session.simple("ALTER SEQUENCE line_id_seq MAXVALUE 5")
    assert [insert(session) for _ in range(3)] == [1, 2, 3]
    assert insert(session, values="(1), (2), (3)") == "2200H"
    session.simple("ALTER SEQUENCE line_id_seq MAXVALUE 12 CYCLE RESTART WITH 11")
    session.simple("DELETE FROM line")
    assert [insert(session) for _ in range(4)] == [11, 12, 1, 2]
    session.simple("DELETE FROM line")
    session.simple("ALTER SEQUENCE line_id_seq MINVALUE -3 MAXVALUE 12 NO CYCLE INCREMENT BY -2 RESTART WITH 1")
    assert [insert(session) for _ in range(4)] == [1, -1, -3, "2200H"]
    session.simple("CREATE TABLE small (k int, n smallint GENERATED BY DEFAULT AS IDENTITY (START 32766), PRIMARY KEY (k, n)) SHARD BY (k)")
    small = "INSERT INTO small (k) VALUES (1) RETURNING n"
    assert [one(session, small) for _ in range(4)] == [32766, 32767, "2200H", "2200H"]
    session.simple("CREATE SEQUENCE wide START 2147483647")
    session.simple("ALTER TABLE kind ALTER id SET DEFAULT nextval('wide')")
    assert [insert(session, "kind") for _ in range(3)] == [2147483647, "22003", "22003"]


def test_session_pooling(make_server, make_router):
    """Sessions that keep their backends: these know numbers of their own, and the block has newer ones."""
    router = make_router([make_server("g1")], settings=blocks_of(3, mode="session", size_per_group=4))
    router.endpoint.run(*TABLES)
    failures = []

    def client(number):
        try:
            session = Session(router.endpoint)
            for turn in range(25):
                block = (turn + number) % 3 == 0
                if block:
                    session.simple("BEGIN")
                if turn % 5 == 0:
                    one(session, "SELECT nextval('kind_id_seq')")
                drawn = insert(session, ("line", "note")[turn % 2])
                assert one(session, "SELECT lastval()") == drawn
                if block:
                    session.simple("COMMIT")
            session.close()
        except Exception as error:  # of a thread: shown by the test
            failures.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def test_functions_that_ask_for_numbers(hundred):
    """They ask the session's backend, which has to draw the numbers itself then."""
    _, home, session = hundred
    session.simple("CREATE FUNCTION told() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN currval('line_id_seq'); END $$")
    assert [insert(session), one(session, "SELECT told()")] == [1, 1]
    assert counted_to(home, "line_id_seq") == 1


def test_reload(hundred, blocks_router):
    """The size of blocks may change at any time."""
    _, home, session = hundred
    written = blocks_router.file.read_text()
    assert insert(session) == 1
    try:
        blocks_router.file.write_text(written.replace("sequence_block = 100", "sequence_block = 1"))
        blocks_router.reload()
        wait_until(lambda: insert(session) == counted_to(home, "line_id_seq"), "numbers without blocks")
        assert insert(session) == counted_to(home, "line_id_seq")
    finally:
        blocks_router.file.write_text(written)
        blocks_router.reload()
