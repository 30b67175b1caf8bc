"""Errors of COPY … FROM STDIN say the line, the column and the value that PostgreSQL says, wherever their row went."""
import contextlib
import struct

import psycopg
import pytest

from harness.fault_proxy import Fault, FaultProxy
from harness.fixtures import SELF_CHECK
from harness.pair import Pair, filled_databases
from harness.processes import PATIENCE
from harness.schemas import SHARDS_DATABASE
from harness.wire import Strictness

TABLES = [
    "CREATE TABLE t (k int PRIMARY KEY, v int, w varchar(5), c int CHECK (c > 0), n text NOT NULL DEFAULT 'n') SHARD BY (k)",
    "CREATE TABLE by_text (v int, k text, w text, UNIQUE (k, v)) SHARD BY (k)",
    "CREATE TABLE by_date (d date, n numeric(5, 2)) SHARD BY (n)",
    "CREATE TABLE \"Odd, line 3\" (\"K k\" bigint, v int) SHARD BY (\"K k\")",
    "CREATE TABLE filled (id serial PRIMARY KEY, v int, w text) SHARD BY (id)",
    "CREATE TABLE small (id smallserial, k int, v int) SHARD BY (k)",
    "CREATE TABLE r (k int PRIMARY KEY, v int) WITH (table_type = 'reference')",
    "CREATE TABLE r_filled (id serial PRIMARY KEY, v int, w text) WITH (table_type = 'reference')",
]
ALL = Strictness(detail=True, context=True)


@pytest.fixture(scope="module")
def tables(router, oracle):
    with filled_databases("copy_errors", router, oracle, TABLES) as sides:
        yield sides


@pytest.fixture
def pair(tables):
    both = Pair(*tables)
    yield both
    assert both.run("SELECT count(*) FROM t")[0].rows == [(b"0",)]
    both.close()


def fails(pair, sql, data, sqlstate, strict=ALL):
    answer = pair.run(sql, data, strict)[0]
    assert answer.sqlstate == sqlstate
    return answer


def good(first, count, fields=5):
    return b"".join(b"\t".join([b"%d" % i, b"1", b"w", b"1", b"n"][:fields]) + b"\n" for i in range(first, first + count))


@pytest.mark.parametrize("bad,sqlstate", [
    (b"-1\tabc\tw\t1\tn\n", "22P02"),
    (b"-1\t1\tlonger\t1\tn\n", "22001"),
    (b"-1\t1\tw\t0\tn\n", "23514"),
    (b"-1\t1\tw\t1\t\\N\n", "23502"),
    (b"-1\t99999999999\tw\t1\tn\n", "22003"),
    (b"-1\t1\tw\t1\n", "22P04"),
    (b"-1\t1\tw\t1\tn\tmore\n", "22P04"),
    (b"\n", "22P02"),
    (b"x\t1\tw\t1\tn\n", "22P02"),
    (b"99999999999\t1\tw\t1\tn\n", "22003"),
    (b"\\N\t1\tw\t1\tn\n", "23502"),
    (b"7\t1\tw\t1\tn\n", "23505"),
    (b"-1\t1\tw\t1\t\xff\n", "22021"),
    (b"-1\t1\tw\t1\t" + b"x" * 200 + "ä".encode() * 30 + b"\tmore\n", "22P04"),
    (b"-1\t" + b"y" * 300 + b"\tw\t1\tn\n", "22P02"),
    (b"-1\t1\tw\t1\tn\\\nsecond\tmore\n", "22P04"),
    (b"-1\t1\tw\t1\tn\r\n", "22P04"),
    (b"-1\t1\tw\t1\tn\rm\n", "22P04"),
    (b"\\.x\n", "22P04"),
    (b"\\.\r\n", "22P04"),
])
@pytest.mark.parametrize("before,after", [(0, 0), (40, 40), (3000, 3000)])
def test_text(pair, bad, sqlstate, before, after):
    if sqlstate == "23505" or b"\r\n" in bad:
        before = max(before, 40)  # there is a row 7, and the style of line ends is known
    rows = good(0, before), bad, good(2000 + before, after)
    fails(pair, "COPY t FROM STDIN", b"".join(rows), sqlstate)


def csv(first, count):
    return b"".join(b'%d,1,"w\n",1,"n\nm"\n' % i if i % 3 else b"%d,,w,1,n\n" % i for i in range(first, first + count))


@pytest.mark.parametrize("bad,sqlstate", [
    (b'-1,abc,w,1,n\n', "22P02"),
    (b'-1,abc,"w\n\n",1,n\n', "22P02"),
    (b'-1,1,"too\nlong\n\n",1,n\n', "22001"),
    (b'-1,1,w,1,"n\nm",more\n', "22P04"),
    (b'-1,1,w\n', "22P04"),
    (b'"1\n",1,w,1,n\n', "23505"),
    (b'"x\ny",1,w,1,n\n', "22P02"),
    (b'-1,1,w,1,"n\n', "22P04"),
    (b'-1,1,w,1,n\r\n', "22P04"),
    (b'\\.\r\n', "22P04"),
])
@pytest.mark.parametrize("before", [0, 40, 2000])
@pytest.mark.parametrize("header", [b"", b'k,v,"w\n",c,n\n'])
def test_csv(pair, bad, sqlstate, before, header):
    if sqlstate in ("22P04", "23505") and before == 0:
        before = 10  # the style of line ends is known, and there is a row 1
    options = "FORMAT csv, HEADER" if header else "FORMAT csv"
    after = b"" if bad.endswith(b'"n\n') else csv(5000, 40)
    fails(pair, f"COPY t FROM STDIN ({options})", header + csv(0, before) + bad + after, sqlstate)


def test_carriage_returns(pair):
    for end in (b"\r\n", b"\r"):
        rows = good(0, 50).replace(b"\n", end)
        fails(pair, "COPY t FROM STDIN", rows + b"-1\tx\tw\t1\tn" + end + good(100, 20).replace(b"\n", end), "22P02")
        fails(pair, "COPY t FROM STDIN", rows + b"-1\t1\tw\t1\tn\n", "22P04")
        lines = csv(0, 50).replace(b"\n", end)
        fails(pair, "COPY t FROM STDIN CSV", lines + b"1000,x,w,1,n" + end, "22P02")


def test_the_first_of_several_errors(pair):
    """Each key's group finds another one."""
    for first in range(100, 110):
        bad = b"".join(b"%d\tbad%d\tw\t1\tn\n" % (i, i) + good(1000 + 3 * i, 3) for i in range(first, first + 20))
        fails(pair, "COPY t FROM STDIN", good(0, 30) + bad, "22P02")
        fails(pair, "COPY t FROM STDIN", good(0, 30) + bad + b"\\.x\n", "22P02")
        fails(pair, "COPY t FROM STDIN", good(0, 30) + b"%d\t1\n" % first + bad, "22P04")
        fails(pair, "COPY t FROM STDIN", good(0, 30) + b"x\t1\n" + bad, "22P02")
    twice = b"".join(b"%d\t1\tw\t1\tn\n" % i for i in range(25, 5, -1))
    fails(pair, "COPY t FROM STDIN", good(0, 30) + b"31\t1\tw\t1\tn\n9\t1\tw\t1\tn\n" + good(40, 30), "23505")
    fails(pair, "COPY t FROM STDIN", good(0, 30) + twice + b"31\tbad\tw\t1\tn\n", "22P02")  # read before rows are written
    fails(pair, "COPY t FROM STDIN", good(0, 1500) + b"5000\tbad\tw\t1\tn\n" + good(2000, 60_000) + b"5001\tx\n", "22P02")


@pytest.mark.skipif(SELF_CHECK, reason="about several servers")
def test_a_group_that_has_said_all(make_server, make_router):
    """Its error and ReadyForQuery arrive at once, while the client's data go on."""
    proxies = [FaultProxy(make_server(f"g{number}")).start() for number in (1, 2)]
    with contextlib.ExitStack() as stack:
        for proxy in proxies:
            stack.callback(proxy.stop)
        router = make_router(proxies)
        router.endpoint.run("CREATE TABLE many (k int PRIMARY KEY, v int) SHARD BY (k)",
                            "INSERT INTO many SELECT g FROM generate_series(0, 63) g")
        shards = [proxy.server.endpoint for proxy in proxies]
        shards[0] = shards[0].change(database=SHARDS_DATABASE.format(router.endpoint.database))
        bad_keys = [shard.run("SELECT min(k) FROM many")[0][0] for shard in shards]
        router.endpoint.run("TRUNCATE many")
        for proxy, bad in zip(proxies, bad_keys):
            armed = proxy.arm(Fault(lambda data: "bad" in data, lambda: None, "after"))
            with router.endpoint.connect() as connection, pytest.raises(psycopg.errors.InvalidTextRepresentation, match="bad"), \
                    connection.cursor().copy("COPY many FROM STDIN") as copy:
                copy.write(f"{bad}\tbad\n" + "".join(f"{key}\t1\n" for key in range(100, 40_000)))
                assert armed.fired.wait(30 * PATIENCE)
                for first in range(40_000, 400_000, 1000):
                    copy.write("".join(f"{key}\t1\n" for key in range(first, first + 1000)))
            assert router.endpoint.run("SELECT count(*) FROM many") == [(0,)]


def test_a_large_stream(pair):
    """The groups fall behind the client, and far more lines than are kept track of."""
    many = b"".join(b"%d\t%d\t\\N\n" % (i, i) for i in range(400_000))
    fails(pair, "COPY t (k, v, w) FROM STDIN", many + b"400001\tx\t\\N\n" + many[:1000], "22P02")
    fails(pair, "COPY t (k, v, w) FROM STDIN", many + b"400001\t1\tw\n\\.x\n", "22P04")


@pytest.mark.parametrize("sql,data,sqlstate", [
    ("COPY by_text FROM STDIN", b"1\ta\tb\n2\ta\tb\nx\tc\td\n", "22P02"),
    ("COPY by_text FROM STDIN", b"1\ta\tb\n2\n3\tc\td\n", "22P04"),
    ("COPY by_text FROM STDIN", b"1\ta\tb\nx\n3\tc\td\n", "22P02"),  # the first column is read before the second is missed
    ("COPY by_text (k, v) FROM STDIN", b"a\t1\nb\t2\nc\t3\na\t1\n", "23505"),
    ("COPY by_text (w, k, v) FROM STDIN (DELIMITER '|', NULL '')", b"a|b|1\n|c|2\n|d|y\n", "22P02"),
    ("COPY by_date FROM STDIN", b"2020-01-01\t1\n2020-01-02\t1.005\n2020-13-02\t1\n", "22008"),
    ("COPY by_date FROM STDIN", b"2020-01-01\t1.001\n2020-01-02\t1.005\n2020-12-02\t12345\n", "22003"),
    ("COPY by_date FROM STDIN", b"2020-01-01\t1.001\n2020-01-02\tone\n2020-12-02\t1\n", "22P02"),
    ("COPY by_date FROM STDIN", b"2020-01-01\t1.001\nx\t3\n2020-12-02\t1.001\n2020-12-32\t1.001\n", "22007"),
    ('COPY "Odd, line 3" FROM STDIN', b"1\t1\n2\t2\n3\tx\n4\ty\n", "22P02"),
    ('COPY "Odd, line 3" FROM STDIN', b"1\t1\n2\t2\nx\t3\n4\ty\n", "22P02"),
    ("COPY filled (v, w) FROM STDIN", b"1\ta\n2\tb\nx\tc\n4\td\n", "22P02"),
    ("COPY filled (v, w) FROM STDIN", b"1\ta\n2\tb\n3\tc\t4\n5\td\n", "22P04"),
    ("COPY filled (v, w) FROM STDIN", b"1\ta\n2\tb\n3\n", "22P04"),
    ("COPY filled (v, w) FROM STDIN", b"1\ta\n2\tb\n3\\.\n", "22P04"),
    ("COPY filled (v, w) FROM STDIN", b"1\ta\nx\tb\n3\\.\n", "22P02"),
    ("COPY filled (v, w) FROM STDIN CSV", b'1,"a\nb"\n2,"c\n\n"\n3,"d\n",e\n', "22P04"),
    ("COPY filled (v, w) FROM STDIN CSV", b'1,"a\nb"\n2,"c\n\n"\n3,"d\n', "22P04"),
    ("COPY filled (v, w) FROM STDIN (FORMAT csv, HEADER MATCH)", b"v,x\n1,2\n", "22P04"),
    ("COPY filled (v, w) FROM STDIN (FORMAT csv, HEADER MATCH)", b"v\n1\n", "22P04"),
    ("COPY r FROM STDIN", b"1\t1\n2\t2\nx\t3\n", "22P02"),
    ("COPY r FROM STDIN", b"1\t1\n2\t2\n1\t3\n", "23505"),
    ("COPY r FROM STDIN", b"1\t1\n2\n", "22P04"),
    ("COPY r_filled (v, w) FROM STDIN", b"1\ta\n2\tb\n3\tc\t4\n5\td\n", "22P04"),
    ("COPY r_filled (v, w) FROM STDIN", b"1\ta\nx\tb\n3\tc\n5\\.\n", "22P02"),
])
def test_other_tables(pair, sql, data, sqlstate):
    fails(pair, sql, data, sqlstate)


def test_numbers_run_out(pair):
    rows = b"".join(b"%d\t1\n" % i for i in range(200))
    pair.run("ALTER SEQUENCE small_id_seq RESTART WITH 32700")
    fails(pair, "COPY small (k, v) FROM STDIN", rows, "2200H")
    pair.run("ALTER SEQUENCE small_id_seq AS bigint MAXVALUE 100000 RESTART WITH 32700")
    fails(pair, "COPY small (k, v) FROM STDIN", rows, "22003")


def binary(rows, end=struct.pack("!h", -1)):
    head = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
    body = b"".join(struct.pack("!h", len(row)) + b"".join(struct.pack("!i", len(value)) + value for value in row)
                    for row in rows)
    return head + body + end


def number(value):
    return struct.pack("!i", value)


PAIRS = [(number(i), number(1)) for i in range(100)]


@pytest.mark.parametrize("table,columns", [("t", "k, v"), ("filled", "v, w"), ("r_filled", "v, w")])
@pytest.mark.parametrize("data", [
    binary(PAIRS + [(number(1000), b"abc")] + [(number(2000), number(1))]),
    binary(PAIRS + [(b"abc", number(1))]),
    binary(PAIRS + [(number(1000),)]),
    binary(PAIRS + [(number(1000), number(1), number(2))]),
    binary(PAIRS, struct.pack("!hi", 2, -2)),
    binary(PAIRS, struct.pack("!hi", 2, 4) + b"ab"),
    binary(PAIRS, struct.pack("!hiii", 2, 4, 1000, 4) + b"ab"),
    binary(PAIRS, struct.pack("!h", 2)),
    binary(PAIRS) + b"more",
    binary([])[:11],
    binary([])[:5],
    b"",
], ids=range(12))
def test_binary(pair, table, columns, data):
    if table.endswith("filled") and b"abc" in data:
        data = data.replace(number(1), b"text")
    answer = pair.run(f"COPY {table} ({columns}) FROM STDIN (FORMAT binary)", data, ALL)[0]
    assert answer.sqlstate or table != "t"


def give_up(pair, sql, data):
    """The client ends with CopyFail."""
    answers = []
    for session in (pair.router, pair.oracle):
        session.connection.send_query(sql.encode())
        session.next_result()
        session.connection.put_copy_data(data)
        session.connection.put_copy_end(b"enough, now")
        answers.append(session._answers(None)[-1])
    assert answers[0] == answers[1]
    return answers[0]


def test_the_client_gives_up(pair):
    for data in (b"", b"1\t1\tw\t1\tn\n", good(0, 50), good(0, 3000), good(0, 50) + b"-1\t1"):
        assert give_up(pair, "COPY t FROM STDIN", data).sqlstate == "57014"
        assert give_up(pair, "COPY r FROM STDIN", b"1\t1\n" if data else b"").sqlstate == "57014"
    assert give_up(pair, "COPY t FROM STDIN", good(0, 50) + b"-1\tx\tw\t1\tn\n" + good(100, 5)).sqlstate == "22P02"
    assert give_up(pair, "COPY t FROM STDIN CSV", csv(0, 50) + b'-1,"\n\n').sqlstate == "57014"
    assert give_up(pair, "COPY filled (v, w) FROM STDIN", b"1\ta\n2\tb\n3").sqlstate == "57014"
    assert give_up(pair, "COPY filled (v, w) FROM STDIN", b"1\ta\nx\tb\n3").sqlstate == "22P02"
    assert give_up(pair, "COPY r_filled (v, w) FROM STDIN", b"1\ta\n2\tb\n3").sqlstate == "57014"
    assert give_up(pair, "COPY t (k, v) FROM STDIN (FORMAT binary)", binary(PAIRS, b"\0")).sqlstate == "57014"


def test_in_a_block(pair):
    pair.run("BEGIN")
    pair.run("COPY t FROM STDIN", good(0, 20))
    pair.run("SAVEPOINT s")
    fails(pair, "COPY t FROM STDIN", good(100, 20) + b"500\tx\n" + good(200, 20), "22P02")
    pair.run("ROLLBACK TO s")
    fails(pair, "COPY t FROM STDIN", good(100, 20) + good(5, 1), "23505")
    pair.run("ROLLBACK")


def test_triggers_and_their_notices(pair):
    pair.run("""CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.v = 13 THEN RAISE EXCEPTION 'line %', NEW.k; END IF;
  IF NEW.v = 7 THEN RAISE NOTICE 'seven at %', NEW.k; END IF;
  RETURN NEW;
END $$""")
    for table in ("t", "r"):
        pair.run(f"CREATE TRIGGER judges BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION judge()")
    rows = b"".join(b"%d\t%d\n" % (i, i) for i in range(60))
    for table in ("t", "r"):
        answer = fails(pair, f"COPY {table} (k, v) FROM STDIN", b"100\t1\n" + rows, "P0001", ALL)
        assert "COPY " + table + ", line 15: " in answer.context
        sevens = b"".join(b"%d\t7\n" % i for i in range(20))
        seen = []
        for session in (pair.router, pair.oracle):
            answer = session.simple(f"COPY {table} (k, v) FROM STDIN", sevens)[0]
            assert answer.tag == "COPY 20"
            seen.append(sorted(answer.notices))
        assert seen[0] == seen[1] and len(seen[0]) == 20
        pair.run(f"DELETE FROM {table}")
        pair.run(f"DROP TRIGGER judges ON {table}")
    pair.run("DROP FUNCTION judge")
