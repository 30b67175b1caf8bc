"""OIDs in replies are the home's, whichever group has answered: by name they are what one PostgreSQL shows."""
import struct

import pytest

from harness.pair import filled_databases
from harness.raw import SYNC, RawClient, bind, describe, execute, parse, query, simplified

SETUP = [
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')",
    "CREATE TYPE pair AS (m mood, n int)",
    "CREATE TYPE span AS RANGE (subtype = pair)",
    "CREATE DOMAIN moods AS mood[] CHECK (cardinality(VALUE) < 9)",
    "CREATE TABLE t (gone int, id int PRIMARY KEY, m mood, ms mood[], p pair, ps pair[], r span, d moods, s text) "
    "SHARD BY (id)",
    "INSERT INTO t VALUES " + ", ".join(
        f"(0, {i}, 'ok', '{{sad,happy}}', '(sad,1)', '{{\"(ok,2)\"}}', '[\"(sad,1)\",\"(sad,9)\")', '{{ok}}', 'x')"
        for i in range(1, 21)),
    "ALTER TABLE t DROP COLUMN gone",
]
BY_KEY = "SELECT * FROM t WHERE id = $1"
BINARY = [1]


@pytest.fixture(scope="module")
def sides(router, oracle):
    with filled_databases("oids", router, oracle, SETUP) as made:
        yield made


def names_of(client):
    """{OID: name} of everything that users made, as this side's catalogs have it."""
    found = client.ask(query(
        "SELECT oid::int8, 'type ' || oid::regtype FROM pg_type WHERE oid >= 16384 "
        "UNION ALL SELECT oid::int8, 'relation ' || oid::regclass FROM pg_class WHERE oid >= 16384 AND relkind <> 'i'"))
    names = {}
    for kind, body in found:
        if kind != "D":
            continue
        size = struct.unpack("!i", body[2:6])[0]
        names[int(body[6:6 + size])] = body[10 + size:].decode()
    return names


def described(body, names):
    """A RowDescription field by field: a name and its neighbours can look like an OID, too."""
    columns, position = [], 2
    for _ in range(struct.unpack("!H", body[:2])[0]):
        end = body.index(b"\0", position) + 1
        table, number, kind, size, modifier, form = struct.unpack("!IHIhiH", body[end:end + 18])
        columns.append((body[position:end], names.get(table, table), number, names.get(kind, kind), size, modifier, form))
        position = end + 18
    return columns


def with_names(client, messages):
    """The transcript with names in place of OIDs, those inside binary values too."""
    names = names_of(client)
    told = []
    for kind, body in messages:
        if not body:
            told.append((kind, body))
        elif kind == "T":
            told.append((kind, described(body, names)))
        elif kind in "tD":
            for oid, name in names.items():
                body = body.replace(struct.pack("!I", oid), f"<{name}>".encode())
            told.append((kind, body))
        else:
            told.extend(simplified([(kind, body)]))
    return told


def mood_of(client):
    return next(oid for oid, name in names_of(client).items() if name == "type mood")


SCRIPTS = {
    "simple": [query("SELECT * FROM t WHERE id = 3"), query("SELECT id, m, ms FROM t ORDER BY id LIMIT 3")],
    "by_key": [parse(BY_KEY), bind(["3"]), describe("P"), execute(), SYNC] * 2,
    "binary": [parse(BY_KEY), bind(["3"], result_formats=BINARY), describe("P"), execute(), SYNC] * 2,
    "binary_undescribed": [parse(BY_KEY, "b"), SYNC,
                           *[bind([str(i)], "b", result_formats=BINARY) + execute() + SYNC for i in (3, 4, 5, 3)]],
    "text_then_binary": [parse(BY_KEY, "c"), bind(["3"], "c"), execute(), SYNC,
                         bind(["3"], "c", result_formats=BINARY), execute(), SYNC],
    "described_before": [parse(BY_KEY, "d"), describe("S", "d"), SYNC, bind(["6"], "d", result_formats=BINARY),
                         execute(), SYNC],
    "pipelined": [parse("SELECT ms FROM t WHERE id = $1", "e"), parse("SELECT s, p FROM t WHERE id = $1", "f"),
                  bind(["3"], "e", "x", result_formats=BINARY), bind(["3"], "f", "y", result_formats=BINARY),
                  describe("P", "x"), describe("P", "y"), execute("x"), execute("y"), SYNC],
    "in_parts": [query("BEGIN"), parse("SELECT ps, g FROM t, generate_series(1, 4) g WHERE id = $1 ORDER BY g"),
                 bind(["3"], portal="z", result_formats=BINARY), execute("z", 2), SYNC, query("SELECT m FROM t WHERE id = 3"),
                 execute("z", 1), execute("z"), SYNC, query("COMMIT")],
    "all_groups": [parse("SELECT id, ms, p, ps, r, d FROM t ORDER BY id"), bind(result_formats=BINARY), describe("P"),
                   execute(), SYNC],
    "rows": [parse("SELECT t, ROW(m, p), pg_typeof(p) FROM t WHERE id = $1"), bind(["3"], result_formats=BINARY),
             describe("P"), execute(), SYNC, query("SELECT t FROM t WHERE id = 3")],
    "parameters": [parse("UPDATE t SET m = $2, ms = $3, p = $4 WHERE id = $1", "u"), describe("S", "u"), SYNC,
                   bind(["4", "sad", "{ok}", "(ok,4)"], "u"), execute(), SYNC],
    "returning": [parse("UPDATE t SET m = m WHERE id = $1 RETURNING m, ms"), bind(["3"], result_formats=BINARY),
                  describe("P"), execute(), SYNC],
    "aggregates": [query("SELECT max(m), min(d) FROM t")],
    "in_transaction": [query("BEGIN"), query("CREATE TYPE fresh AS ENUM ('a', 'b')"),
                       query("CREATE TABLE made (id int PRIMARY KEY, f fresh[])"),
                       query("ALTER TABLE t ADD COLUMN f fresh[] DEFAULT '{a}'"),
                       parse("SELECT f FROM t WHERE id = $1"), bind(["3"], result_formats=BINARY), describe("P"),
                       execute(), SYNC, query("SELECT * FROM t WHERE id = 3"), query("ROLLBACK")],
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_names_behind_the_oids(sides, script):
    told = []
    for side in sides:
        client = RawClient(side)
        client.login()
        client.send(*SCRIPTS[script])
        wanted = sum(part.count(SYNC) if part[:1] != b"Q" else 1 for part in SCRIPTS[script])
        messages = [each for _ in range(wanted) for each in client.read_until("Z")]
        if script == "in_transaction":  # the types are gone: only their kind can be compared
            assert [kind for kind, _ in messages].count("E") == 0
            messages = [(kind, b"") for kind, _ in messages]
        told.append(with_names(client, messages))
        client.close()
    assert told[0] == told[1]


def test_a_declared_type(sides):
    """A parameter's type is given by the OID that this side's catalogs show."""
    told = []
    for side in sides:
        client = RawClient(side)
        client.login()
        mood = mood_of(client)
        sql = "SELECT count(*) FROM t WHERE m = $1"
        told.append(with_names(client, client.ask(parse(sql, "m", [mood]), describe("S", "m"), bind(["ok"], "m"),
                                                  execute(), SYNC)))
        by_key = parse("SELECT id, m FROM t WHERE id = $1 AND m = $2", types=[23, mood])
        for _ in range(2):
            told[-1] += with_names(client, client.ask(by_key, bind(["3", "ok"]), describe("P"), execute(), SYNC))
        client.close()
    assert told[0] == told[1]


def test_uncommitted_types_have_their_oids(sides):
    client = RawClient(sides[0])
    client.login()
    client.ask(query("BEGIN"))
    client.ask(query("CREATE TYPE young AS ENUM ('a', 'b')"))
    client.ask(query("ALTER TABLE t ADD COLUMN y young[] DEFAULT '{a}'"))
    messages = client.ask(parse("SELECT y FROM t WHERE id = $1"), bind(["3"], result_formats=BINARY), describe("P"),
                          execute(), SYNC)
    described = dict(with_names(client, messages))
    client.ask(query("ROLLBACK"))
    client.close()
    (_, relation, _, kind, *_), = described["T"]
    assert (relation, kind) == ("relation t", "type young[]")
    assert b"<type young>" in described["D"]
