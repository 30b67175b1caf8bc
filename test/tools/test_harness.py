"""The oracle harness itself: it must see every difference, and take out our clauses and nothing else."""
import pathlib
import socket
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "test"), str(ROOT / "test" / "compat")]
import drivers  # noqa: E402
import pg  # noqa: E402
from harness import debian_source, processes, slt  # noqa: E402
from harness.dialect import strip_dialect  # noqa: E402
from harness.wire import Answer, Strictness, all_differences, differences, is_ordered  # noqa: E402


@pytest.mark.parametrize("sql,plain", [
    ("CREATE TABLE t (k int) SHARD BY HASH (k)", "CREATE TABLE t (k int)"),
    ("create table t (k int) shard by (k, (lower(v)))", "create table t (k int)"),
    ("CREATE TABLE t (k int) PARTITION BY HASH (k)", "CREATE TABLE t (k int)"),
    ("CREATE TABLE t (k int) PARTITION BY RANGE (k)", "CREATE TABLE t (k int) PARTITION BY RANGE (k)"),
    ("CREATE TABLE t (k int)\nSHARD BY (k) WITH (shard_count = 8)", "CREATE TABLE t (k int)"),
    ("CREATE TABLE t (k int) WITH (fillfactor = 70, table_type = 'reference')",
     "CREATE TABLE t (k int) WITH (fillfactor = 70)"),
    ("SELECT ' SHARD BY (k)' WITH (shard_count = 8)", "SELECT ' SHARD BY (k)' WITH (shard_count = 8)"),
])
def test_dialect_is_stripped(sql, plain):
    assert strip_dialect(sql) == plain


@pytest.mark.parametrize("sql,ordered", [
    ("SELECT 1 ORDER BY 1", True),
    ("SELECT 1\norder\n by x", True),
    ("SELECT * FROM (SELECT 1 ORDER BY 1) s", False),
    ("SELECT string_agg(a ORDER BY b) FROM t", False),
    ("SELECT 1", False),
])
def test_order_is_recognised(sql, ordered):
    assert is_ordered(sql) is ordered


def answer(**changes):
    base = {"status": "TUPLES_OK", "tag": "SELECT 2", "names": ("a",), "types": (23,), "modifiers": (-1,),
            "rows": [(b"1",), (b"2",)]}
    return Answer(**{**base, **changes})


@pytest.mark.parametrize("changes,word", [
    ({"tag": "SELECT 3"}, "command tag"),
    ({"names": ("b",)}, "column names"),
    ({"types": (20,)}, "column types"),
    ({"modifiers": (5,)}, "type modifiers"),
    ({"rows": [(b"1",), (b"3",)]}, "rows differ"),
    ({"rows": [(b"1",), (None,)]}, "rows differ"),
    ({"rows": [(b"2",), (b"1",)]}, "rows differ"),
    ({"rows": [(b"1",)]}, "1 rows"),
    ({"notices": [("NOTICE", "00000", "x")]}, "notices"),
    ({"sqlstate": "22012", "message": "division by zero"}, "the oracle says SELECT 2"),
])
def test_every_difference_is_seen(changes, word):
    found = differences(answer(**changes), answer())
    assert found and word in found[0]


@pytest.mark.parametrize("changes,word", [
    ({"sqlstate": "42P01"}, "SQLSTATE"), ({"message": "y"}, "message"), ({"position": "9"}, "position"),
    ({"hint": "do"}, "hint"), ({"sqlstate": ""}, "the oracle says 42703 x"),
])
def test_every_difference_of_errors_is_seen(changes, word):
    error = {"sqlstate": "42703", "message": "x", "position": "8"}
    found = differences(answer(**{**error, **changes}), answer(**error))
    assert found and word in found[0]


def test_what_may_differ():
    unordered = answer(rows=[(b"2",), (b"1",)])
    assert differences(unordered, answer(), Strictness(ordered=False)) == []
    assert differences(answer(types=(16400,)), answer(types=(16999,))) == []
    assert all_differences([answer()], [answer(), answer()]) != []


def test_blocks_are_parsed():
    blocks = slt.parse("# c\nstatement error 23505 loose\nINSERT 1\n-- c\n\n"
                       "query rowsort\nSELECT 1\nbind: [1]\n----\n1\n\n"
                       "connection b user=x password=\"two words\"\n")
    assert [block.kind for block in blocks] == ["statement", "query", "connection"]
    assert blocks[0].words == ["error", "23505"] and blocks[0].flags == {"loose"}
    assert blocks[0].sql == "INSERT 1\n-- c" and blocks[0].line == 2
    assert blocks[1].bind == [1] and blocks[1].expected == ["1"] and blocks[1].flags == {"rowsort"}
    assert blocks[2].words == ["b", "user=x", "password=two words"]


@pytest.mark.parametrize("text", ["statment ok\nSELECT 1", "statement perhaps\nSELECT 1"])
def test_a_block_that_is_none_is_an_error(text):
    with pytest.raises(slt.FormatError):
        slt.parse(text)


def test_every_file_parses():
    files = sorted((ROOT / "test/e2e").glob("*.slt"))
    assert len(files) > 10 and all(slt.parse(file.read_text(), file.name) for file in files)


@pytest.mark.parametrize("text,lines", [
    ("# ours\ndeb http://a/debian bookworm main\ndeb http://a/debian-security bookworm-security main\ndeb http://b/other x main\n",
     ["deb-src http://a/debian bookworm main"]),
    ("Types: deb\nURIs: http://a/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\n"
     "Types: deb\nURIs: http://a/debian-security\nSuites: bookworm-security\n",
     ["deb-src [signed-by=/k.gpg] http://a/debian bookworm main", "deb-src [signed-by=/k.gpg] http://a/debian bookworm-updates main"]),
    ("Types: deb\nURIs: https://b/other\nSuites: x\n", []),
])
def test_sources_of_packages(text, lines):
    assert debian_source.source_lines(text) == lines


@pytest.mark.parametrize("status,said,word", [
    (0, "\nRunning: test_1\n\nRan 1 test(s).\n", "passed"),
    (0, "\nRunning: test_1\nNot testing unsupported feature: no\nRan 0 test(s).\n", "refused"),
    (0, "\nRan 0 test(s).\n", "failed"),
    (1, "\nRunning: test_1\nFAILED: test_1\nRan 1 test(s).\n", "failed"),
])
def test_a_refusal_is_no_success(status, said, word):
    assert drivers.libpqxx_word(status, said) == word


def test_only_numbers_that_must_differ_are_hidden():
    said = "Received notification: a pid=7 at 8\nCreated large object #9, row #3"
    assert drivers.Outcome("passed", said).lines() == [
        "Received notification: a pid=… at 8", "Created large object #…, row #3", "(passed)"]


@pytest.mark.parametrize("expected,got,cause", [
    ([], ['ERROR:  relation "t1" does not exist'], "ERROR:  relation … does not exist"),
    (["(1 row)"], ["ERROR:  the function f(a, b) is 7 too many"], "ERROR:  the function … is N too many"),
    (['ERROR:  no "x"', "LINE 1: x"], ["(1 row)"], "no error, PostgreSQL says ERROR:  no …"),
    (["ERROR:  no", "LINE 1: x"], ["ERROR:  no"], "another position, detail or context"),
    (["NOTICE:  a", " 1"], [" 1"], "another notice"),
    ([" 1"], [" 2"], "other rows"),
    ([" QUERY PLAN ", " Seq Scan"], [" QUERY PLAN ", " Index Scan"], "another plan"),
    ([" 1"], None, "the session has ended"),
])
def test_differences_are_counted_by_cause(expected, got, cause):
    assert pg.cause(expected, got) == cause


def test_two_runs_never_get_the_same_port():
    """Neither takes what the other one has asked for, and none comes again soon: its server may just be down."""
    program = (f"import sys; sys.path.insert(0, {str(ROOT / 'test')!r}); from harness.processes import free_port; "
               f"print(*[free_port() for _ in range(150)], flush=True); sys.stdin.read()")
    runs = [subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(2)]
    ports = [int(port) for run in runs for port in run.stdout.readline().split()]
    for run in runs:
        run.communicate()
    assert len(ports) == len(set(ports)) == 300
    assert all(processes.PORTS[0] <= port < processes.PORTS[1] for port in ports)


def test_a_port_in_use_is_nobodys():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", processes.free_port()))
        listener.listen()
        taken = listener.getsockname()[1]
        assert taken not in [processes.free_port() for _ in range(processes.PORTS_OF_A_PROCESS)]
