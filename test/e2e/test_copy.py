"""COPY in and out, split by key: all three formats, odd options, errors, and clients that stop in the middle."""
import pytest

from harness import wire
from harness.pair import Pair, filled_databases
from harness.wire import Session, Strictness

TABLES = [
    "CREATE TABLE c (id int PRIMARY KEY, v text, n numeric, at timestamptz, raw bytea) SHARD BY (id)",
    "CREATE TABLE k (k text, v int) SHARD BY (k)",
    "CREATE TABLE pair (a int, b text, v int, PRIMARY KEY (a, b)) SHARD BY HASH (a, b)",
    "CREATE TABLE r (id int PRIMARY KEY, v text) WITH (table_type = 'reference')",
    "CREATE TABLE l (id int PRIMARY KEY, v text)",
]
NAMES = ["c", "k", "pair", "r", "l"]


@pytest.fixture(scope="module")
def tables(router, oracle):
    with filled_databases("copies", router, oracle, TABLES) as sides:
        yield sides


@pytest.fixture
def pair(tables):
    both = Pair(*tables)
    yield both
    both.close()
    for side in tables:
        side.run(*(f"DELETE FROM {name}" for name in NAMES))


def same_rows(pair):
    for name in NAMES:
        pair.run(f"SELECT * FROM {name}")


def text_rows(count):
    return "".join(f"{i}\tvalue {i}\t{i}.50\t2024-01-01 00:00:{i % 60:02}+00\t\\\\x{i % 256:02x}\n"
                   for i in range(count)).encode()


def test_text(pair):
    assert pair.run("COPY c FROM STDIN", text_rows(3000))[0].tag == "COPY 3000"
    pair.run("COPY k FROM STDIN", b"a\t1\n\\N\t2\n\t3\ntab\\there\t4\nback\\\\slash\t5\nnew\\nline\t\\N\n\\x41\t6\n\\101b\t7\n")
    pair.run("COPY pair (b, v, a) FROM STDIN", b"".join(b"b%d\t%d\t%d\n" % (i % 7, i, i) for i in range(500)))
    pair.run("COPY r FROM STDIN", b"1\tone\n2\ttwo\n")
    pair.run("COPY l FROM STDIN", b"1\tone\n2\ttwo\n\\.\n")
    same_rows(pair)
    pair.run("SELECT v FROM k WHERE k = 'Ab' OR k = 'A' OR k = E'new\\nline' OR k = E'tab\\there'")
    for i in (0, 17, 499):
        pair.run(f"SELECT v FROM pair WHERE a = {i} AND b = 'b{i % 7}'")
        pair.run(f"SELECT v FROM c WHERE id = {i}")


@pytest.mark.parametrize("options,data", [
    ("FORMAT csv", b'1,"a,b",1\n2,"quote "" here",\n3,"line\nbreak",3\n4,,4\n5,"",5\n'),
    ("FORMAT csv, HEADER", b"id,v,n\n1,x,1\n2,y,2\n3,z,3\n"),
    ("FORMAT csv, DELIMITER ';', QUOTE '''', ESCAPE '\\', NULL 'none'", b"1;'a;b';1\n2;'it\\'s';none\n3;none;3\n"),
    ("FORMAT csv, NULL 'NULL'", b'1,NULL,1\n2,"NULL",2\n'),
    ("FORMAT csv, FORCE_NOT_NULL (v)", b"1,,1\n2,x,2\n"),
    ("FORMAT text, DELIMITER '|', NULL ''", b"1|a\\|b|1\n2||\n3|c|3\n"),
    ("DELIMITER ','", b"1,a\\,b,1\n2,\\N,2\n"),
])
def test_formats(pair, options, data):
    pair.run(f"COPY c (id, v, n) FROM STDIN WITH ({options})", data)
    pair.run(f"COPY c (id, v, n) FROM STDIN WITH ({options})", b"" if "HEADER" not in options else b"id,v,n\n")
    same_rows(pair)


FORCED = b'1,,a\n2,"",b\n3,none,c\n4,"none",d\n'


@pytest.mark.parametrize("options", ["FORCE_NOT_NULL (k)", "FORCE_NULL (k)", "FORCE_NULL (v, k)", "FORCE_NOT_NULL (v)",
                                     "NULL 'none', FORCE_NOT_NULL (k)", "NULL 'none', FORCE_NULL (k), FORCE_NOT_NULL (v)"])
def test_forced_nulls_in_the_key(tables, options):
    pair = Pair(*tables)
    pair.run("CREATE TABLE forced (n int, k text, v text) SHARD BY (k)")
    for columns in ("", "(n, k, v)", "(v, k, n)"):
        data = FORCED if columns != "(v, k, n)" else b'a,,1\nb,"",2\nc,none,3\nd,"none",4\n'
        assert pair.run(f"COPY forced {columns} FROM STDIN (FORMAT csv, {options})", data)[0].tag == "COPY 4"
    pair.run("SELECT n, k, v FROM forced ORDER BY n, k, v")
    for condition in ("k = ''", "k = 'none'", "k IS NULL"):
        pair.run(f"SELECT n, v FROM forced WHERE {condition}")
    pair.run("DROP TABLE forced")
    pair.close()


def test_generated_and_dropped_columns_before_the_key(tables):
    pair = Pair(*tables)
    pair.run("CREATE TABLE made (gone int, twice int GENERATED ALWAYS AS (v * 2) STORED, v int, k int, "
             "w text) SHARD BY (k)")
    rows = b"".join(b"%d\t%d\t%d\tw%d\n" % (i, i + 7, 3 * i, i) for i in range(200))
    assert pair.run("COPY made FROM STDIN", rows)[0].tag == "COPY 200"
    pair.run("ALTER TABLE made DROP COLUMN gone")
    rows = b"".join(b"%d\t%d\tx%d\n" % (i + 9, 5 * i, i) for i in range(200))
    assert pair.run("COPY made FROM STDIN", rows)[0].tag == "COPY 200"
    assert pair.run("COPY made (w, k, v) FROM STDIN", b"".join(b"y\t%d\t%d\n" % (7 * i, i) for i in range(200)))[0].tag
    pair.run("SELECT k, v, w, twice FROM made ORDER BY k, v, w")
    for key in (0, 35, 105, 597):
        pair.run(f"SELECT * FROM made WHERE k = {key}")
    out = b"".join(pair.run("COPY made TO STDOUT", strict=Strictness(ordered=False))[0].copied)
    pair.run("DELETE FROM made")
    assert pair.run("COPY made FROM STDIN", out)[0].tag == "COPY 600"
    pair.run("COPY made FROM STDIN (FORMAT binary)", b"".join(
        pair.router.simple("COPY made TO STDOUT (FORMAT binary)")[0].copied))
    pair.run("SELECT k, v, w, twice FROM made ORDER BY k, v, w")
    pair.run("COPY made (k, twice) FROM STDIN", b"1\t2\n")
    pair.run("DROP TABLE made")
    pair.close()


def test_carriage_returns(pair):
    pair.run("COPY c (id, v) FROM STDIN", b"1\tone\r\n2\ttwo\r\n3\tthree\r\n")
    pair.run("COPY k FROM STDIN (FORMAT csv)", b'a,1\r\n"b\r\nb",2\r\n')
    same_rows(pair)


def test_binary_in(pair, tables):
    with tables[1].connect() as connection:
        with connection.cursor().copy(
                "COPY (SELECT i, 'v' || i, i / 4.0, timestamptz '2024-01-01 00:00+00' + i * interval '1 min', "
                "decode(md5(i::text), 'hex') FROM generate_series(1, 2000) i) TO STDOUT (FORMAT binary)") as copy:
            data = b"".join(bytes(chunk) for chunk in copy)
    pair.run("COPY c FROM STDIN (FORMAT binary)", data)
    same_rows(pair)
    pair.run("SELECT * FROM c WHERE id = 1234")
    for side in (pair.router, pair.oracle):
        out = b"".join(side.simple("COPY (SELECT * FROM c WHERE id = 7) TO STDOUT (FORMAT binary)")[0].copied)
        assert out.startswith(b"PGCOPY\n\xff\r\n\0") and out.endswith(b"\xff\xff")


def test_binary_out_can_be_read_back(pair):
    pair.run("COPY c FROM STDIN", text_rows(1500))
    out = b"".join(pair.router.simple("COPY c TO STDOUT (FORMAT binary)")[0].copied)
    assert out.startswith(b"PGCOPY\n\xff\r\n\0") and out.count(b"PGCOPY\n") == 1
    pair.run("DELETE FROM c")
    pair.run("COPY c FROM STDIN (FORMAT binary)", out)
    same_rows(pair)


@pytest.mark.parametrize("sql", [
    "COPY c TO STDOUT",
    "COPY c (v, id) TO STDOUT (FORMAT csv)",
    "COPY c TO STDOUT (FORMAT csv, HEADER)",
    "COPY c TO STDOUT (DELIMITER '|', NULL 'nil')",
    "COPY (SELECT id, v FROM c WHERE id = 5) TO STDOUT",
    "COPY (SELECT id FROM c WHERE id < 10) TO STDOUT",
    "COPY r TO STDOUT",
    "COPY l TO STDOUT (FORMAT csv)",
])
def test_out(pair, sql):
    pair.run("COPY c FROM STDIN", text_rows(700))
    pair.run("COPY r FROM STDIN", b"1\tone\n2\ttwo\n")
    pair.run("COPY l FROM STDIN", b"1\tone\n2\t\\N\n")
    pair.run(sql)


@pytest.mark.parametrize("data,sqlstate", [
    (b"1\ta\n2\tb\n1\tc\n", "23505"),
    (b"1\ta\nx\tb\n", "22P02"),
    (b"1\ta\n2\n", "22P04"),
    (b"1\ta\n2\tb\tc\n", "22P04"),
    (b"\\N\ta\n", "23502"),
    (b"1\t\xff\n", "22021"),
    (b"99999999999\ta\n", "22003"),
])
def test_a_bad_row_undoes_all(pair, data, sqlstate):
    good = b"".join(b"%d\tgood\n" % i for i in range(100, 400))
    answers = pair.run("COPY c (id, v) FROM STDIN", good + data, Strictness(message=False, position=False))
    assert answers[0].sqlstate == sqlstate
    assert pair.run("SELECT count(*) FROM c")[0].rows == [(b"0",)]


def test_statement_errors(pair):
    for sql in ["COPY nothing FROM STDIN", "COPY c (nothing) FROM STDIN", "COPY c FROM STDIN (FORMAT odd)",
                "COPY c FROM STDIN (DELIMITER 'ab')", "COPY c TO STDOUT (NOTHING 1)"]:
        assert pair.run(sql, b"")[0].sqlstate, sql
    pair.run("SELECT 1")


def test_in_a_transaction(pair):
    pair.run("BEGIN")
    pair.run("COPY c (id, v) FROM STDIN", b"1\ta\n2\tb\n3\tc\n4\td\n")
    pair.run("SELECT count(*) FROM c")
    pair.run("UPDATE c SET v = v || '!'")
    pair.run("ROLLBACK")
    same_rows(pair)
    pair.run("BEGIN")
    pair.run("COPY c (id, v) FROM STDIN", b"1\ta\n2\tb\n3\tc\n4\td\n")
    pair.run("COPY k FROM STDIN", b"x\t1\ny\t2\n")
    pair.run("COMMIT")
    same_rows(pair)
    pair.run("BEGIN")
    assert pair.run("COPY c (id, v) FROM STDIN", b"9\tx\n1\ta\n", Strictness(message=False))[0].sqlstate == "23505"
    assert pair.run("SELECT 1")[0].sqlstate == "25P02"
    pair.run("COMMIT")
    same_rows(pair)


def test_client_gives_up(pair):
    answers = pair.run("COPY c FROM STDIN", None)  # the client sends CopyFail
    assert answers[0].sqlstate == "57014"
    pair.run("SELECT count(*) FROM c")


def test_client_vanishes(pair, tables):
    """A client that closes its socket in mid-COPY leaves no row and no lock."""
    vanishing = Session(tables[0])
    vanishing.connection.send_query(b"COPY c (id, v) FROM STDIN")
    assert vanishing.next_result().status == wire.pq.ExecStatus.COPY_IN
    vanishing.connection.put_copy_data(b"".join(b"%d\tlost\n" % i for i in range(1000)))
    vanishing.connection.flush()
    vanishing.close()
    pair.router.simple("SET lock_timeout = '10s'")
    assert pair.router.simple("ALTER TABLE c ALTER COLUMN v SET DEFAULT NULL")[0].sqlstate == ""
    assert pair.router.simple("SELECT count(*) FROM c")[0].rows == [(b"0",)]


def test_many_rows_in_small_and_large_pieces(pair):
    """Rows that straddle CopyData messages, and rows longer than any buffer."""
    rows = [f"{i}\t{'x' * (i * 37 % 300)}\n".encode() for i in range(5000)]
    rows += [f"{i}\t{'y' * 400_000}\n".encode() for i in range(5000, 5006)]
    data = b"".join(rows)
    for side in (pair.router, pair.oracle):
        side.connection.send_query(b"COPY c (id, v) FROM STDIN")
        side.next_result()
        position, step = 0, 1
        while position < len(data):
            side.connection.put_copy_data(data[position:position + step])
            position += step
            step = step * 5 % 65_521
        side.connection.put_copy_end(None)
        assert side._answers(None)[-1].tag == "COPY 5006"
    pair.run("SELECT count(*), sum(id), sum(length(v)), max(length(v)) FROM c")
    pair.run("SELECT id, md5(v) FROM c WHERE id IN (3, 500, 4999, 5003)")
