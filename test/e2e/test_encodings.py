"""client_encoding other than the server's: keys are hashed as they are stored, and what is not understood is refused."""
import psycopg
import pytest

from harness.dialect import strip_dialect
from harness.pair import databases
from harness.wire import Session

WORDS = ["plain", "Käse", "größe", "naïve", "élan", "Ångström", "x", "", "ÿ", "señor", "ßß", "µm"]
TABLE = "CREATE TABLE w (k text PRIMARY KEY, n int, b varchar(6)) SHARD BY (k)"


@pytest.fixture(scope="module")
def tables(router, oracle):
    with databases("encodings", router, oracle) as sides:
        sides[0].run(TABLE)
        sides[1].run(strip_dialect(TABLE))
        yield sides


@pytest.fixture
def empty(tables):
    yield tables
    for side in tables:
        side.run("DELETE FROM w")


def connect(side, encoding):
    connection = psycopg.connect(side.conninfo(), autocommit=True)
    connection.execute(f"SET client_encoding = '{encoding}'")
    return connection


def same(empty, encoding, work):
    """Runs `work` on both sides; both must end with the same answer and the same rows."""
    answers = []
    for side in empty:
        with connect(side, encoding) as connection:
            answer = work(connection)
        answers.append((answer, side.run("SELECT k, n, b FROM w ORDER BY k")))
    assert answers[0] == answers[1]
    return answers[0][0]


def quoted(word):
    return "'" + word.replace("'", "''") + "'"


def find_all(connection):
    found = []
    for word in WORDS:
        found.append(connection.execute(f"SELECT n FROM w WHERE k = {quoted(word)}").fetchall())
        found.append(connection.execute("SELECT n FROM w WHERE k = %s", (word,)).fetchall())
    found.append(connection.execute("SELECT k FROM w ORDER BY k COLLATE \"C\"").fetchall())
    found.append(connection.execute("SELECT k, count(*) FROM w GROUP BY k ORDER BY k COLLATE \"C\"").fetchall())
    return found


@pytest.mark.parametrize("encoding", ["LATIN1", "WIN1252", "UTF8", "LATIN9"])
@pytest.mark.parametrize("way", ["simple", "rows", "parameter", "binary", "copy", "csv"])
def test_keys(empty, encoding, way):
    def work(connection):
        cursor = connection.cursor()
        if way == "simple":
            for number, word in enumerate(WORDS):
                cursor.execute(f"INSERT INTO w VALUES ({quoted(word)}, {number}, {quoted(word[:3])})")
        elif way == "rows":
            cursor.execute("INSERT INTO w VALUES " + ", ".join(f"({quoted(w)}, {n}, {quoted(w[:3])})"
                                                               for n, w in enumerate(WORDS)))
        elif way in ("parameter", "binary"):
            for number, word in enumerate(WORDS):
                cursor.execute("INSERT INTO w VALUES (%s, %s, 'b')" if way == "parameter" else
                               "INSERT INTO w VALUES (%b, %s, 'b')", (word, number))
        else:
            format = "" if way == "copy" else " (FORMAT csv)"
            separator = "\t" if way == "copy" else ","
            with cursor.copy(f"COPY w FROM STDIN{format}") as copy:
                for number, word in enumerate(WORDS):
                    field = word if way == "copy" else f'"{word}"'
                    copy.write(f"{field}{separator}{number}{separator}b\n")
        found = find_all(connection)
        cursor.execute(f"UPDATE w SET n = n + 100 WHERE k = {quoted('größe')}")
        updated = cursor.rowcount
        cursor.execute("DELETE FROM w WHERE k = %s", ("élan",))
        return found, updated, cursor.rowcount

    assert same(empty, encoding, work)[1:] == (1, 1)


@pytest.mark.parametrize("encoding", ["KOI8R", "WIN1251"])
def test_order_is_the_server_s(empty, encoding):
    words = ["яма", "Борис", "ёж", "борода", "Яна", "aa", "юг"]

    def work(connection):
        for number, word in enumerate(words):
            connection.execute("INSERT INTO w VALUES (%s, %s)", (word, number))
        return [connection.execute(f"SELECT k FROM w ORDER BY {by}").fetchall() for by in ("k", "k DESC", 'k COLLATE "C"')]

    same(empty, encoding, work)


def test_set_local(empty):
    def work(connection):
        found = []
        with connection.transaction():
            connection.execute("INSERT INTO w VALUES ('größe', 1)")
        connection.execute("BEGIN")
        connection.execute("SET LOCAL client_encoding = 'LATIN1'")
        found.append(connection.execute("SELECT n FROM w WHERE k = 'größe'").fetchall())
        connection.execute("COMMIT")
        found.append(connection.execute("SELECT n FROM w WHERE k = 'größe'").fetchall())
        return found

    assert same(empty, "UTF8", work) == [[(1,)], [(1,)]]


def test_names_beyond_ascii_are_refused(tables):
    tables[0].run('CREATE TABLE "größe" (k int PRIMARY KEY) SHARD BY (k)', 'INSERT INTO "größe" VALUES (1), (2), (3)')
    with connect(tables[0], "LATIN1") as connection:
        for attempt in range(2):
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                connection.execute('SELECT count(*) FROM "größe"')
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                connection.execute('SELECT count(*) FROM "größe" WHERE k > %s', (0,))
        connection.execute("SET client_encoding = 'UTF8'")
        assert connection.execute('SELECT count(*) FROM "größe"').fetchone() == (3,)


def test_encodings_that_cannot_be_scanned(tables):
    session = Session(tables[0])
    for sql in ("SET client_encoding = 'SJIS'", "SELECT 1", "SELECT n FROM w WHERE k = 'ascii'"):
        assert session.simple(sql)[0].sqlstate == "", sql
    text = b"SELECT n FROM w WHERE k = '" + "表".encode("sjis") + b"'"
    session.connection.send_query(text)
    assert session._answers(None)[0].sqlstate == "0A000"
    session.connection.send_query_params(text, [])
    assert session._answers(None)[0].sqlstate == "0A000"
    assert session.simple("COPY w FROM STDIN", copy_data=b"a\t1\tb\n")[0].sqlstate == "0A000"
    assert session.simple("RESET client_encoding")[0].sqlstate == ""
    assert session.simple("SELECT n FROM w WHERE k = '表'")[0].sqlstate == ""
    session.close()
