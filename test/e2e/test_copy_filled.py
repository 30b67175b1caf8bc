"""COPY without the values of sequences, beyond what copy_filled.slt can say: binary data, many rows, rights, ends in the middle."""
import struct
import threading

import pytest

from harness import wire
from harness.pair import Pair, databases
from harness.wire import Session

TABLES = ["CREATE TABLE line (id serial PRIMARY KEY, v int) SHARD BY (id)",
          "CREATE TABLE kind (id smallserial PRIMARY KEY, v int) WITH (table_type = 'reference')",
          "CREATE TABLE note (k int, n bigint GENERATED ALWAYS AS IDENTITY, v text, PRIMARY KEY (k, n)) SHARD BY (k)"]


@pytest.fixture
def pair(router, oracle):
    with databases("copy_filled", router, oracle) as sides:
        both = Pair(*sides)
        for table in TABLES:
            both.run(table)
        yield both
        both.close()


def binary(rows):
    head = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
    body = b"".join(struct.pack("!h", len(row)) + b"".join(struct.pack("!i", len(value)) + value for value in row) for row in rows)
    return head + body + struct.pack("!h", -1)


def test_binary(pair):
    ints = binary([(struct.pack("!i", i),) for i in range(500)])
    for table in ("line", "kind"):
        assert pair.run(f"COPY {table} (v) FROM STDIN (FORMAT binary)", ints)[0].tag == "COPY 500"
        pair.run(f"SELECT * FROM {table}")
        pair.run("SELECT lastval()")
    pair.run("COPY note (v, k) FROM STDIN (FORMAT binary)", binary([(b"v%d" % i, struct.pack("!i", i % 7)) for i in range(300)]))
    pair.run("SELECT * FROM note")
    for i in (0, 3, 499):
        pair.run(f"SELECT v FROM line WHERE id = {i}")
    pair.run("COPY line (v) FROM STDIN (FORMAT binary)", binary([]))
    pair.run("COPY line (v) FROM STDIN (FORMAT binary)", binary([(struct.pack("!i", 1), b"")]))
    pair.run("SELECT count(*) FROM line")


def test_many_rows(pair):
    """Numbers in the order of the rows, and none left out, over many questions to the home."""
    count = 60_000
    text = "".join(f"{i}\n" for i in range(count)).encode()
    assert pair.run("COPY line (v) FROM STDIN", text)[0].tag == f"COPY {count}"
    pair.run("SELECT count(*), sum(id), min(id - v), max(id - v), max(id) FROM line")
    pair.run("COPY kind (v) FROM STDIN", text[:text.index(b"\n32767\n") + 1])
    pair.run("SELECT count(*), sum(id), min(id - v), max(id - v) FROM kind")
    pair.run("COPY kind (v) FROM STDIN", b"1\n")  # the end of smallserial
    pair.run("COPY note (k, v) FROM STDIN CSV", "".join(f'{i % 100},"line {i}\nand another"\n' for i in range(20_000)).encode())
    pair.run("SELECT count(*), min(n), max(n), sum(n) FROM note")
    pair.run("SELECT lastval()")
    pair.run("SELECT n, v FROM note WHERE k = 17")


def test_rights(pair):
    pair.run("CREATE ROLE copyist LOGIN")
    pair.run("GRANT INSERT ON line, note, kind TO copyist")
    for role in ("SET ROLE copyist", "BEGIN; SET LOCAL ROLE copyist"):
        pair.run(role)
        answers = pair.run("COPY line (v) FROM STDIN", b"1\n")
        assert answers[0].sqlstate == "42501"
        pair.run("ROLLBACK; RESET ROLE")
    pair.run("GRANT USAGE ON SEQUENCE line_id_seq, kind_id_seq TO copyist")
    pair.run("SET ROLE copyist")
    for table in ("line", "kind"):
        pair.run(f"COPY {table} (v) FROM STDIN", b"1\n")
    pair.run("COPY note (k) FROM STDIN", b"1\n")
    pair.run("RESET ROLE")
    for table in ("line", "kind", "note"):
        pair.run(f"SELECT * FROM {table}")
    pair.run("DROP OWNED BY copyist")
    pair.run("DROP ROLE copyist")


def test_client_gives_up(pair):
    for table in ("line", "kind"):
        assert pair.run(f"COPY {table} (v) FROM STDIN", None)[0].sqlstate == "57014"
        pair.run(f"SELECT count(*) FROM {table}")


def test_small_and_large_pieces(pair):
    """Rows that straddle CopyData messages, and rows longer than a question waits for."""
    rows = [f'{i},"{"x" * (i * 37 % 300)}"\n'.encode() for i in range(3000)]
    rows += [f'{i},"{"y" * 400_000}"\n'.encode() for i in range(3000, 3006)]
    data = b"".join(rows)
    for side in (pair.router, pair.oracle):
        side.connection.send_query(b"COPY note (k, v) FROM STDIN CSV")
        assert side.next_result().status == wire.pq.ExecStatus.COPY_IN
        position, step = 0, 1
        while position < len(data):
            side.connection.put_copy_data(data[position:position + step])
            position += step
            step = step * 5 % 65_521
        side.connection.put_copy_end(None)
        assert side._answers(None)[-1].tag == "COPY 3006"
    pair.run("SELECT count(*), sum(k), sum(n), sum(n - k), sum(length(v)), max(length(v)) FROM note")
    pair.run("SELECT k, n, md5(v) FROM note WHERE k IN (3, 500, 2999, 3003)")


def test_client_vanishes(router):
    """A client that closes its socket in mid-COPY leaves no row and no lock."""
    with databases("copy_vanishes", router) as (side,):
        side.run(*TABLES)
        vanishing = Session(side)
        vanishing.connection.send_query(b"COPY line (v) FROM STDIN")
        assert vanishing.next_result().status == wire.pq.ExecStatus.COPY_IN
        vanishing.connection.put_copy_data(b"1\n" * 100_000)
        vanishing.connection.flush()
        vanishing.close()
        side.run("SET lock_timeout = '10s'; ALTER TABLE line ALTER v SET DEFAULT 1")
        assert side.run("SELECT count(*) FROM line") == [(0,)]
        assert side.run("INSERT INTO line DEFAULT VALUES RETURNING id")[0][0] > 0


def test_with_others(router):
    """Sessions that copy and insert at once: no number twice."""
    with databases("copy_beside", router) as (side,):
        side.run(*TABLES)
        failures = []

        def client(number):
            try:
                session = Session(side)
                for turn in range(8):
                    table = ("line", "kind")[(turn + number) % 2]
                    if turn % 3:
                        answer = session.simple(f"COPY {table} (v) FROM STDIN", copy_data=b"1\n" * 300)[-1]
                    else:
                        answer = session.simple(f"INSERT INTO {table} (v) VALUES (1), (2), (3)")[-1]
                    assert not answer.sqlstate, answer
                session.close()
            except Exception as error:  # of a thread: shown by the test
                failures.append(error)

        threads = [threading.Thread(target=client, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures
        rows = sum(side.run(f"SELECT count(*) FROM {table}")[0][0] for table in ("line", "kind"))
        assert rows == 6 * (5 * 300 + 3 * 3)
