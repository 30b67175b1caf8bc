"""ADD COLUMN with computed values, where others are at work or copies lie in another order (new_columns.slt has the rest)."""
import threading

import psycopg
import pytest

from harness import fsck
from harness.fixtures import SELF_CHECK
from harness.pair import databases
from harness.schemas import group_endpoints, misplaced_rows

pytestmark = pytest.mark.skipif(SELF_CHECK, reason="about several servers")


@pytest.fixture
def endpoint(router):
    with databases("columns", router) as [made]:
        yield made


def one(endpoint, sql):
    return endpoint.run(sql)[0][0]


@pytest.mark.parametrize("key", ["PRIMARY KEY", ""])
def test_copies_in_another_order(endpoint, key):
    """Of a reference table every group has the same rows, but where they lie differs."""
    endpoint.run(f"CREATE TABLE k (id int {key}, f float8, v text) WITH (table_type = 'reference')",
                 "INSERT INTO k SELECT g, 1.0 / g, 'v' || g FROM generate_series(1, 3000) g")
    if not key:
        endpoint.run("INSERT INTO k SELECT g % 7, NULL, NULL FROM generate_series(1, 500) g")
    for remainder, server in enumerate(group_endpoints(endpoint).values()):
        server.run(f"UPDATE k SET v = v WHERE id % 5 = {remainder}", "VACUUM k", f"UPDATE k SET v = v WHERE id % 3 = {remainder % 3}")
    endpoint.run("CREATE FUNCTION odd() RETURNS numeric VOLATILE LANGUAGE sql AS 'SELECT round(random()::numeric, 3)'",
                 "CREATE SEQUENCE numbers", "SET extra_float_digits = -5; SET DateStyle = 'SQL, DMY'; "
                 "ALTER TABLE k ADD COLUMN n serial, ADD COLUMN i int GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT -1 MAXVALUE 5), "
                 "ADD COLUMN r float8 DEFAULT random(), ADD COLUMN u uuid DEFAULT gen_random_uuid(), "
                 "ADD COLUMN s timestamptz DEFAULT clock_timestamp(), ADD COLUMN m text DEFAULT 'm' || nextval('numbers'), "
                 "ADD COLUMN t timestamptz DEFAULT now(), ADD COLUMN o numeric DEFAULT odd()")
    assert misplaced_rows(endpoint) == [] and fsck.differences(endpoint) == []
    count = one(endpoint, "SELECT count(*) FROM k")
    for column, different in {"n": count, "i": count, "r": count, "u": count, "m": count, "t": 1}.items():
        assert one(endpoint, f"SELECT count(DISTINCT {column}) FROM k") == different, column


def test_a_sequence_that_others_use(endpoint):
    """Numbers that others draw meanwhile are not given to rows as well."""
    endpoint.run("CREATE SEQUENCE numbers", "CREATE TABLE t (id int PRIMARY KEY) SHARD BY (id)",
                 "INSERT INTO t SELECT g FROM generate_series(1, 20000) g")
    over, drawn = threading.Event(), [[], []]

    def draw(numbers):
        with endpoint.connect() as connection:
            while not over.is_set():
                numbers += [row[0] for row in connection.execute("SELECT nextval('numbers') FROM generate_series(1, 10)")]

    threads = [threading.Thread(target=draw, args=(numbers,)) for numbers in drawn]
    for thread in threads:
        thread.start()
    interleaved = False
    for turn in range(20):
        endpoint.run(f"ALTER TABLE t ADD COLUMN n{turn} bigint DEFAULT nextval('numbers')")
        first, last = endpoint.run(f"SELECT min(n{turn}), max(n{turn}) FROM t")[0]
        interleaved = interleaved or last - first >= 20000
    over.set()
    for thread in threads:
        thread.join()
    assert interleaved
    of_rows = [row[0] for turn in range(20) for row in endpoint.run(f"SELECT n{turn} FROM t")]
    everything = of_rows + drawn[0] + drawn[1]
    assert len(of_rows) == 20 * 20000 and len(set(everything)) == len(everything)
    assert fsck.differences(endpoint) == []


def test_rows_that_come_meanwhile(endpoint):
    endpoint.run("CREATE TABLE t (id int PRIMARY KEY, v int) SHARD BY (id)", "INSERT INTO t SELECT g, 1 FROM generate_series(1, 1000) g")
    over, problems, keys = threading.Event(), [], [0, 0, 0]

    def write(number):
        try:
            with endpoint.connect() as connection:
                while not over.is_set():
                    try:
                        connection.execute("INSERT INTO t (id, v) VALUES (%s, 2)", (10_000 + keys[number] * 3 + number,))
                        keys[number] += 1
                    except psycopg.errors.SequenceGeneratorLimitExceeded:  # it waited for the column: docs/consistency.md
                        pass
        except psycopg.Error as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(5):
        endpoint.run(f"ALTER TABLE t ADD COLUMN n{turn} bigserial, ADD COLUMN i{turn} int GENERATED ALWAYS AS IDENTITY")
    over.set()
    for thread in threads:
        thread.join()
    assert problems == []
    count = one(endpoint, "SELECT count(*) FROM t")
    assert count == 1000 + sum(keys)
    for turn in range(5):
        assert one(endpoint, f"SELECT count(DISTINCT n{turn}) FROM t") == one(endpoint, f"SELECT count(DISTINCT i{turn}) FROM t") == count
    assert fsck.differences(endpoint) == [] and misplaced_rows(endpoint) == []


@pytest.mark.parametrize("kind", [" SHARD BY (id)", " WITH (table_type = 'reference')"])
def test_an_old_snapshot(endpoint, kind):
    """The transaction does not see rows that the new column is made for: it numbers them all, or is told to come again."""
    endpoint.run(f"CREATE TABLE t (id int PRIMARY KEY){kind}", "CREATE TABLE other (id int PRIMARY KEY) SHARD BY (id)",
                 "INSERT INTO t SELECT g FROM generate_series(1, 50) g")
    with endpoint.connect() as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM other")
        endpoint.run("INSERT INTO t SELECT g FROM generate_series(51, 100) g")
        with pytest.raises(psycopg.errors.SerializationFailure):
            connection.execute("ALTER TABLE t ADD COLUMN n serial")
        connection.execute("ROLLBACK")
        connection.execute("ALTER TABLE t ADD COLUMN n serial")
    assert one(endpoint, "SELECT count(DISTINCT n) FROM t") == 100
    assert fsck.differences(endpoint) == [] and misplaced_rows(endpoint) == []
