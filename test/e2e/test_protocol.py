"""The extended protocol message by message: the router's transcript must equal PostgreSQL's."""
import difflib
import struct

import pytest

from harness.dialect import strip_dialect
from harness.fixtures import SELF_CHECK
from harness.pair import databases
from harness.raw import (FLUSH, SYNC, RawClient, bind, close, describe, execute, message, parse, query, simplified)

TABLE = "CREATE TABLE p (id int PRIMARY KEY, v text, n int8) SHARD BY (id)"
ROWS = "INSERT INTO p VALUES " + ", ".join(f"({i}, 'v{i}', {i * 10})" for i in range(1, 41))
INT4, INT8, TEXT = 23, 20, 25
ONE = "SELECT id, v FROM p WHERE id = $1"


@pytest.fixture(scope="module")
def sides(router, oracle):
    with databases("protocol", router, oracle) as made:
        made[0].run(strip_dialect(TABLE) if SELF_CHECK else TABLE, ROWS)
        made[1].run(strip_dialect(TABLE), ROWS)
        yield made


@pytest.fixture
def clients(sides):
    made = [RawClient(side) for side in sides]
    for client in made:
        client.login()
    yield made
    for client in made:
        client.close()


def packed(value):
    return struct.pack("!i", value)


ALL = "SELECT id FROM p ORDER BY id"
SCRIPTS = {
    "portals_behind_savepoint": [
        query("BEGIN"), parse(ALL), bind(portal="early"), execute("early", 2), SYNC, query("SAVEPOINT x"),
        parse(ALL), bind(portal="late"), execute("late", 2), SYNC, parse(ONE), bind(["5"], portal="late one"), SYNC,
        parse("ROLLBACK TO x"), bind(portal="back"), execute("back"), SYNC, execute("early", 2), SYNC,
        execute("late", 2), SYNC, query("ROLLBACK TO x"), execute("late one"), SYNC, query("ROLLBACK TO x"),
        parse(ALL), bind(portal="late"), execute("late", 2), SYNC, query("ROLLBACK")],
    "unnamed": [parse("SELECT 1 AS x"), bind(), describe("P"), execute(), SYNC],
    "select_columns": [parse("SELECT n, v FROM p x WHERE $1 = x.id"), bind(["5"]), describe("P"), execute(), SYNC,
                       bind(["6"]), execute(), SYNC, bind(["7"], result_formats=[1]), execute(), SYNC],
    "key_in_transaction": [query("BEGIN"), parse(ONE), bind(["5"]), describe("P"), execute(), SYNC, parse(ONE),
                           bind(["6"]), execute(), SYNC, parse(ONE), bind(["six"]), execute(), SYNC, parse(ONE),
                           bind(["6"]), execute(), SYNC, query("ROLLBACK")],
    "key_beyond_type": [parse(ONE), bind(["3000000000"]), execute(), SYNC, parse(ONE, types=[INT8]),
                        bind(["3000000000"]), execute(), SYNC],
    "literal_key": [query("SELECT v, n FROM p WHERE id = 5"), query("SELECT v, n FROM p WHERE id = 6"),
                    parse("SELECT v, n FROM p WHERE id = 7"), bind(), describe("P"), execute(), SYNC],
    "no_describe": [parse(ONE, types=[INT4]), bind(["5"]), execute(), SYNC],
    "describe_statement": [parse(ONE, "s", [INT4]), describe("S", "s"), SYNC],
    "describe_inferred": [parse(ONE, "s"), describe("S", "s"), SYNC],
    "describe_without_rows": [parse("UPDATE p SET v = $2 WHERE id = $1", "s"), describe("S", "s"), SYNC],
    "named_twice": [parse(ONE, "s"), bind(["1"], "s"), execute(), bind(["2"], "s"), execute(), SYNC,
                    bind(["3"], "s"), describe("P"), execute(), SYNC],
    "duplicate_name": [parse(ONE, "s"), SYNC, parse("SELECT 2", "s"), SYNC, bind(["4"], "s"), execute(), SYNC],
    "replaced_unnamed": [parse("SELECT 1"), parse("SELECT 2"), bind(), execute(), SYNC],
    "binary_in_and_out": [parse(ONE, types=[INT4]), bind([packed(7)], formats=[1], result_formats=[1]), describe("P"),
                          execute(), SYNC],
    "mixed_formats": [parse("SELECT id, v, n FROM p WHERE id = $1 AND v = $2", types=[INT4, TEXT]),
                      bind([packed(8), "v8"], formats=[1, 0], result_formats=[1, 0, 1]), describe("P"), execute(), SYNC],
    "null_parameter": [parse(ONE), bind([None]), execute(), SYNC],
    "row_limit_one_key": [parse("SELECT g FROM p, generate_series(1, 5) g WHERE id = $1 ORDER BY g"), bind(["3"]),
                          execute(rows=2), execute(rows=2), execute(rows=2), execute(rows=2), SYNC],
    "row_limit_all_groups": [parse("SELECT id FROM p ORDER BY id"), bind(), execute(rows=7), execute(rows=30),
                             execute(rows=3), execute(), SYNC],
    "row_limit_exact": [parse("SELECT id FROM p WHERE id = 3"), bind(), execute(rows=1), execute(rows=1), SYNC],
    "portal_gone_after_sync": [parse("SELECT id FROM p ORDER BY id"), bind(portal="c"), execute("c", 3), SYNC,
                               execute("c", 3), SYNC],
    "portal_in_transaction": [query("BEGIN"), parse("SELECT id FROM p ORDER BY id"), bind(portal="c"), execute("c", 3),
                              SYNC, execute("c", 3), SYNC, describe("P", "c"), close("P", "c"), SYNC, execute("c"), SYNC,
                              query("ROLLBACK")],
    "two_portals": [query("BEGIN"), parse("SELECT g FROM generate_series(1, 6) g", "g"),
                    parse("SELECT v FROM p WHERE id = $1", "one"), bind(["5"], "one", "a"), bind([], "g", "b"),
                    execute("b", 2), execute("a"), execute("b", 2), SYNC, execute("b"), SYNC, query("COMMIT")],
    "error_skips_to_sync": [parse("SELECT 1"), bind(), execute(), parse("SELECT nothing"), bind(), execute(),
                            parse("SELECT 3"), bind(), execute(), SYNC, parse("SELECT 4"), bind(), execute(), SYNC],
    "error_in_execute": [parse("SELECT 1 / (id - 9) FROM p WHERE id = $1"), bind(["9"]), execute(), execute(), SYNC],
    "error_in_bind": [parse(ONE, types=[INT4]), bind(["nine"]), execute(), SYNC, query("SELECT 1")],
    "too_few_parameters": [parse(ONE), bind([]), execute(), SYNC],
    "too_many_parameters": [parse(ONE), bind(["1", "2"]), execute(), SYNC],
    "too_many_for_named": [parse(ONE, "s"), bind(["1", "2"], "s"), execute(), SYNC],
    "unknown_statement": [bind([], "never"), execute(), SYNC, describe("S", "never"), SYNC],
    "unknown_portal": [execute("never"), SYNC, describe("P", "never"), SYNC],
    "close_unknown": [close("S", "never"), close("P", "never"), SYNC],
    "close_and_reuse": [parse(ONE, "s"), close("S", "s"), parse("SELECT 2", "s"), bind([], "s"), execute(), SYNC],
    "two_statements_in_one": [parse("SELECT 1; SELECT 2"), bind(), execute(), SYNC],
    "empty": [parse(""), bind(), describe("P"), execute(), SYNC],
    "only_sync": [SYNC, SYNC],
    "pipelined_writes": [parse("INSERT INTO p VALUES ($1, $2)", "i", [INT4, TEXT]),
                         *[bind([str(i), f"w{i}"], "i") + execute() for i in range(100, 112)], SYNC,
                         query("SELECT count(*) FROM p WHERE id >= 100"), query("DELETE FROM p WHERE id >= 100")],
    "pipelined_failure_undoes": [parse("INSERT INTO p (id) VALUES ($1)", "i", [INT4]),
                                 *[bind([str(i)], "i") + execute() for i in (200, 201, 202, 1, 203)], SYNC,
                                 query("SELECT count(*) FROM p WHERE id >= 200")],
    "begin_in_pipeline": [parse("BEGIN"), bind(), execute(), parse("UPDATE p SET n = 1 WHERE id = 1"), bind(), execute(),
                          SYNC, parse("ROLLBACK"), bind(), execute(), SYNC],
    "simple_between": [parse(ONE, "s"), SYNC, query("SELECT 1"), bind(["2"], "s"), execute(), SYNC],
    "simple_query_drops_unnamed": [parse("SELECT 1"), SYNC, query("SELECT 2"), bind(), execute(), SYNC],
    "deallocate_all": [parse(ONE, "s"), SYNC, query("DEALLOCATE ALL"), bind(["1"], "s"), SYNC],
    "discard_all": [parse(ONE, "s"), SYNC, query("DISCARD ALL"), bind(["1"], "s"), SYNC],
    "sql_execute_of_protocol_statement": [parse(ONE, "s", [INT4]), SYNC, query("EXECUTE s (4)"), query("DEALLOCATE s"),
                                          bind(["1"], "s"), SYNC],
    "protocol_bind_of_sql_prepare": [query("PREPARE s (int) AS " + ONE), bind(["6"], "s"), execute(), SYNC],
    "returning_with_limit": [parse("UPDATE p SET n = n WHERE id < 9 RETURNING id"), bind(), execute(), SYNC],
    "failed_block": [query("BEGIN"), parse("SELECT 1/0"), bind(), execute(), SYNC, parse("SELECT 1"), SYNC,
                     parse("ROLLBACK"), bind(), execute(), SYNC],
    "array_parameter": [parse("SELECT id FROM p WHERE id = ANY ($1::int[]) ORDER BY id"), bind(["{1,2,3,4,5}"]),
                        describe("P"), execute(), SYNC],
    # Keys of all groups: whichever fails, the next message is for another group.
    "fails_before_another_group": [parse("INSERT INTO p VALUES ($1, $2)", "i", [INT4, TEXT]),
                                   *[bind([str(i), "again"], "i") + execute() for i in range(1, 9)], SYNC,
                                   query("SELECT 1")],
    "unknown_statement_behind_error": [parse("SELECT 1"), bind(), execute(), parse("SELECT * FROM nosuchtable"),
                                       bind([], "never"), SYNC],
    "begin_behind_writes": [parse("INSERT INTO p VALUES ($1, $2)", "i", [INT4, TEXT]),
                            *[bind([str(i), "w"], "i") + execute() for i in range(300, 306)], parse("BEGIN"), bind(),
                            execute(), *[bind([str(i), "w"], "i") + execute() for i in range(306, 310)], SYNC,
                            query("SELECT count(*) FROM p WHERE id >= 300"), query("ROLLBACK"),
                            query("SELECT count(*) FROM p WHERE id >= 300")],
    "setting_taken_back": [parse("SET work_mem = '7MB'"), bind(), execute(), parse("SELECT 1/0"), bind(), execute(),
                           SYNC, query("SHOW work_mem")],
    "setting_kept": [parse("SET work_mem = '7MB'"), bind(), execute(), parse("SELECT 1"), bind(), execute(), SYNC,
                     query("SHOW work_mem"), query("RESET work_mem")],
    "one_name_twice": [parse(ONE, "s"), parse(ONE, "s"), SYNC, bind(["5"], "s"), execute(), SYNC, close("S", "s"),
                       SYNC],
    "parse_before_query": [parse(ONE), query("SELECT 1"), SYNC],
    "columns_change_behind_a_statement": [
        parse("SELECT * FROM p WHERE id = $1", "s", [INT4]), bind(["5"], "s"), execute(), SYNC,
        parse("SELECT id FROM p WHERE id = $1", "t", [INT4]), SYNC, query("ALTER TABLE p ADD COLUMN z int"),
        bind(["5"], "s"), execute(), SYNC, bind(["5"], "t"), execute(), SYNC,
        query("EXECUTE s (5)"), query("ALTER TABLE p DROP COLUMN z"), bind(["5"], "s"), execute(), SYNC,
        query("DEALLOCATE ALL")],
    "column_type_changes_behind_a_statement": [
        parse("SELECT id, n FROM p ORDER BY id LIMIT 2", "s"), bind([], "s"), execute(), SYNC,
        query("ALTER TABLE p ALTER COLUMN n TYPE float8"), bind([], "s"), execute(), SYNC,
        query("ALTER TABLE p ALTER COLUMN n TYPE int8"), bind([], "s"), execute(), SYNC, query("DEALLOCATE ALL")],
    "execute_is_described": [
        query("PREPARE e (int) AS SELECT id, v FROM p WHERE id = $1"), query("PREPARE w AS UPDATE p SET n = n"),
        parse("EXECUTE e (5)"), describe("S"), bind(), describe("P"), execute(), SYNC,
        parse("EXECUTE e (6)", "s"), bind([], "s", result_formats=[1]), describe("P"), execute(), SYNC,
        parse("EXECUTE e (7)"), bind(), execute(), SYNC, parse("EXECUTE w"), describe("S"), SYNC,
        parse("EXECUTE nothing"), describe("S"), SYNC, query("DEALLOCATE ALL")],
    "fetch_is_described": [
        query("BEGIN"), query("DECLARE c CURSOR FOR SELECT v, id FROM p WHERE id = 4"),
        parse("FETCH 1 FROM c"), describe("S"), bind(), describe("P"), execute(), SYNC,
        parse("MOVE 1 FROM c"), describe("S"), SYNC, parse("FETCH 1 FROM nothing"), describe("S"), SYNC,
        query("DECLARE d CURSOR FOR SELECT v, id FROM p ORDER BY id"), parse("FETCH 2 FROM d"), describe("S"), bind(),
        describe("P"), execute(), SYNC, query("COMMIT")],
    "prepared_statements_shown": [
        query("PREPARE sql (int) AS SELECT $1 ; SELECT 2"), parse(ONE, "inferred"), parse(ONE, "declared", [INT8]),
        parse("BEGIN", "begin"), SYNC,
        query("SELECT name, statement, parameter_types::text, from_sql FROM pg_prepared_statements ORDER BY name"),
        *[bind(["1"], "inferred") + execute() + SYNC for _ in range(3)], query("EXECUTE inferred (2)"), bind([], "begin"),
        query("SELECT name, custom_plans, generic_plans FROM pg_prepared_statements WHERE name = 'inferred'"),
        parse("SELECT name FROM pg_prepared_statements WHERE from_sql = $1 ORDER BY 1", "own"), describe("S", "own"),
        bind(["f"], "own"), describe("P"), execute("", 2), execute(), SYNC, query("DEALLOCATE ALL")],
    "cursors_shown": [
        query("BEGIN"), query("DECLARE d SCROLL CURSOR FOR SELECT v FROM p WHERE id = 4; SELECT 1"),
        parse("SELECT id FROM p ORDER BY id", "all"), bind([], "all", "a"), execute("a", 3),
        parse(ONE), bind(["5"], "", "one", [], [1]), bind(["6"]),
        parse("SELECT name, statement, is_holdable, is_binary, is_scrollable FROM pg_cursors ORDER BY name", "own"),
        bind([], "own", "mine"), execute("mine"), bind([], "own"), execute(), SYNC, execute("a", 2), execute("one"),
        close("P", "one"), bind([], "own"), execute(), SYNC,
        query("SELECT name, statement FROM pg_cursors ORDER BY name"), query("COMMIT"),
        parse(ONE), bind(["5"], "", "one"), bind([], "own"), execute(), execute("one"), SYNC, query("DEALLOCATE ALL"),
        query("SELECT name FROM pg_cursors")],
    "multi_statement_query": [query("SELECT 1; SELECT v FROM p WHERE id = 2; UPDATE p SET n = n WHERE id = 3")],
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_transcript(clients, name):
    script = SCRIPTS[name] * 3  # what was seen before takes the router's short way
    rounds = sum(part == SYNC or part[:1] == b"Q" for part in script)
    transcripts = []
    for client in clients:
        client.send(*script)
        transcripts.append([[entry for entry in simplified(client.read_until("Z")) if entry[0] != "S"]
                            for _ in range(rounds)])
    if name == "returning_with_limit":  # rows of several groups come in any order
        transcripts = [[sorted(part, key=repr) for part in transcript] for transcript in transcripts]
    if transcripts[0] != transcripts[1]:
        lines = [[f"{number}: {entry}" for number, part in enumerate(transcript) for entry in part]
                 for transcript in transcripts]
        pytest.fail("\n".join(difflib.unified_diff(lines[1], lines[0], "oracle", "router", lineterm="")), pytrace=False)


def test_queries_behind_an_error_wait_for_sync(clients):
    for client in clients:
        answers = client.ask(parse("SELEC"), query("SELECT 5"), SYNC)
        assert [kind for kind, _ in answers] == ["E", "Z"]


def call(function, *arguments, binary=True):
    body = struct.pack("!IHHH", function, 1, 1 if binary else 0, len(arguments))
    for argument in arguments:
        body += struct.pack("!i", -1) if argument is None else struct.pack("!i", len(argument)) + argument
    return message(b"F", body + struct.pack("!H", 1 if binary else 0))


ABS, LO_CREATE, LO_OPEN, LO_CLOSE, LOREAD, LOWRITE, LO_LSEEK, LO_UNLINK = 1397, 715, 952, 953, 954, 955, 956, 964
READ_WRITE = packed(0x60000)


def test_function_calls(clients):
    scripts = [
        [call(ABS, b"-5", binary=False)], [call(ABS, packed(-5))], [call(ABS, None)], [call(ABS)], [call(999999999)],
        [message(b"F", b"")], [query("SELECT 1")],
        [call(LO_CREATE, packed(777001))], [query("BEGIN")], [call(LO_OPEN, packed(777001), READ_WRITE)],
        [call(LOWRITE, packed(0), b"some bytes")], [query("SELECT id FROM p WHERE id = 3")],
        [call(LO_LSEEK, packed(0), packed(5), packed(0))], [call(LOREAD, packed(0), packed(100))],
        [call(LO_CLOSE, packed(0))], [call(LOREAD, packed(0), packed(100))], [call(ABS, packed(-5))],
        [query("ROLLBACK")], [call(LO_OPEN, packed(777001), READ_WRITE)], [call(LOREAD, packed(0), packed(100))],
        [call(LO_UNLINK, packed(777001))], [call(LO_UNLINK, packed(777001))],
        [parse("SELECT 1"), bind(), execute(), call(ABS, packed(-7))],
    ]
    transcripts = [[simplified(client.ask(*script)) for script in scripts] for client in clients]
    for script, ours, theirs in zip(scripts, *transcripts):
        assert ours == theirs, script
    assert transcripts[1][13] == [("V", b"\0\0\0\x05bytes"), ("Z", b"T")]


def test_own_notifications_name_the_session(clients):
    for client in clients:
        answers = dict(client.ask(query("LISTEN slt_own"), query("NOTIFY slt_own, 'x'")) + client.read_until("Z"))
        assert struct.unpack("!I", answers["A"][:4])[0] == client.key[0]
        answers = client.ask(query("SELECT pg_backend_pid()"))
        assert str(client.key[0]).encode() in answers[1][1]


def test_a_refused_prepare_ends_the_block(sides):
    client = RawClient(sides[0])
    client.login()
    client.ask(query("BEGIN"), query("SELECT 1"))
    client.read_until("Z")
    assert client.ask(query("PREPARE TRANSACTION 'slt_refused'"))[-1] == ("Z", b"I")
    client.ask(query("ROLLBACK PREPARED 'slt_refused'"))  # where PostgreSQL itself stands in the router's place
    client.close()


def test_flush_answers_without_sync(clients):
    for client in clients:
        client.send(parse(ONE), describe("S"), FLUSH)
        assert [kind for kind, _ in client.read_until("T")] == ["1", "t", "T"]
        client.send(bind(["11"]), execute(), FLUSH)
        assert [kind for kind, _ in client.read_until("C")] == ["2", "D", "C"]
        client.send(parse("SELEC"), FLUSH)
        assert client.read()[0] == "E"
        client.send(SYNC)
        assert client.read() == ("Z", b"I")


def test_thousands_of_names(clients):
    """More prepared statements than any backend keeps, used again in another order."""
    client = clients[0]
    for start in range(0, 3000, 500):
        client.send(*[parse(f"SELECT id + {n % 50} FROM p WHERE id = $1", f"name {n}", [INT4])
                      for n in range(start, start + 500)], SYNC)
        client.read_until("Z")
    for n in (2999, 0, 1500, 7, 2222, 0):
        answer = client.ask(bind(["5"], f"name {n}"), execute(), SYNC)
        assert answer[1] == ("D", struct.pack("!Hi", 1, len(str(5 + n % 50))) + str(5 + n % 50).encode())


def test_parameter_status_is_told(sides):
    told = []
    for side in sides:
        client = RawClient(side)
        client.login(application_name="told", client_encoding="UTF8")
        told.append(dict(client.parameters))
        answers = client.ask(query("SET application_name = 'new'; SET TimeZone = 'Asia/Tokyo'"))
        told.append([body for kind, body in answers if kind == "S"])
        answers = client.ask(query("BEGIN")) + client.ask(query("SET TimeZone = 'UTC'")) + client.ask(query("ROLLBACK"))
        told.append([body for kind, body in answers if kind == "S"])
        client.close()
    assert told[0].keys() >= told[3].keys()
    for name in set(told[3]) - {"server_version"}:
        assert told[0][name] == told[3][name], name
    assert told[1:3] == told[4:6]


def test_server_version_is_of_postgresql(sides):
    versions = []
    for side in sides:
        client = RawClient(side)
        client.login()
        versions.append(client.parameters["server_version"])
        client.close()
    assert versions[0].split(".")[0] == versions[1].split(".")[0]


def test_unknown_protocol_version_is_negotiated(sides):
    """A client that asks for 3.9 with an option of its own gets NegotiateProtocolVersion, then goes on."""
    answers = []
    for side in sides:
        client = RawClient(side)
        body = struct.pack("!I", 3 << 16 | 9) + b"user\0" + side.user.encode() + b"\0database\0"
        body += side.database.encode() + b"\0_pq_.nothing\0on\0\0"
        client.send(struct.pack("!I", len(body) + 4) + body)
        answers.append(client.read())
        client.close()
    assert answers[0] == answers[1]
    assert answers[0][0] == "v"
