"""Limits on time that clients set for themselves, with transactions over one group and over several: as in one PostgreSQL."""
import contextlib
import time

import pytest

from harness.fixtures import SELF_CHECK
from harness.pair import databases
from harness.processes import PATIENCE
from harness.raw import Closed, RawClient, fields, query

ONE, SEVERAL = "id = 1", "id <= 8"


@pytest.fixture(scope="module")
def sides(router, oracle):
    with databases("timeouts", router, oracle) as made:
        for side, clause in zip(made, ("" if SELF_CHECK else " SHARD BY (id)", "")):
            side.run(f"CREATE TABLE t (id int PRIMARY KEY, n int){clause}", "INSERT INTO t SELECT i, 0 FROM generate_series(1, 40) i")
        yield dict(zip(("router", "plain"), made))


@pytest.fixture(params=["router", "plain"])
def endpoint(request, sides):
    return sides[request.param]


def last_words(client):
    """Of a connection that the other side ends: the error, after which there is nothing."""
    [*_, (_, body)] = client.read_until("E")
    with pytest.raises(Closed):
        client.read()
    found = fields(body)
    return found["S"], found["C"], found["M"]


@pytest.mark.parametrize("where", [ONE, SEVERAL])
def test_an_idle_transaction_ends(endpoint, where):
    with contextlib.closing(RawClient(endpoint)) as client:
        client.login()
        client.ask(query("SET idle_in_transaction_session_timeout = '600ms'"))
        client.ask(query("BEGIN"))
        client.ask(query(f"UPDATE t SET n = 77 WHERE {where}"))
        assert last_words(client) == ("FATAL", "25P03", "terminating connection due to idle-in-transaction timeout")
    endpoint.run(f"SET lock_timeout = '{10 * PATIENCE}s'", f"UPDATE t SET n = 0 WHERE {where} AND n <> 77")
    assert endpoint.run("SELECT count(*) FROM t WHERE n = 77") == [(0,)]


def test_an_idle_session_ends(endpoint):
    with contextlib.closing(RawClient(endpoint)) as client:
        client.login()
        client.ask(query("SET idle_session_timeout = '300ms'"))
        assert last_words(client) == ("FATAL", "57P05", "terminating connection due to idle-session timeout")


def goes_on(endpoint, words):
    """Nothing happens for longer than the limit was. The words go in one packet: no pause between them is too long."""
    with contextlib.closing(RawClient(endpoint)) as client:
        client.login()
        client.send(*[query(word) for word in words])
        for _ in words:
            client.read_until("Z")
        time.sleep(1.2)
        assert [kind for kind, _ in client.ask(query("SELECT 1"))] == ["T", "D", "C", "Z"]


@pytest.mark.parametrize("words", [["RESET ALL"], ["DISCARD ALL"], ["RESET idle_session_timeout"],
                                   ["SET idle_session_timeout = 0"]])
def test_a_limit_that_is_no_more(endpoint, words):
    goes_on(endpoint, ["SET idle_session_timeout = '500ms'", *words])


@pytest.mark.parametrize("words", [["BEGIN", "SET idle_session_timeout = '500ms'", "ROLLBACK"],
                                   ["BEGIN", "SET LOCAL idle_session_timeout = '500ms'", "COMMIT"],
                                   ["BEGIN", "SAVEPOINT a", "SET idle_in_transaction_session_timeout = '500ms'", "ROLLBACK TO a"]])
def test_a_limit_that_is_rolled_back(endpoint, words):
    goes_on(endpoint, words)


def test_the_limit_may_be_the_roles(endpoint):
    endpoint.run("CREATE ROLE in_a_hurry LOGIN SUPERUSER PASSWORD 'secret'",
                 "ALTER ROLE in_a_hurry SET idle_in_transaction_session_timeout = '600ms'")
    try:
        with contextlib.closing(RawClient(endpoint.change(user="in_a_hurry", password="secret"))) as client:
            client.login()
            client.ask(query("BEGIN"))
            client.ask(query(f"UPDATE t SET n = 77 WHERE {SEVERAL}"))
            assert last_words(client)[1] == "25P03"
    finally:
        endpoint.run("DROP ROLE in_a_hurry")


def test_who_waits_for_another_group_is_not_idle(endpoint):
    """Each row is of some group; while one works for longer than the limit the others have nothing to do."""
    limit_s = 1.5 * PATIENCE
    with endpoint.connect(autocommit=True) as connection:
        connection.execute(f"SET idle_in_transaction_session_timeout = '{int(limit_s * 1000)}ms'")
        connection.execute("BEGIN")
        connection.execute(f"UPDATE t SET n = n + 1 WHERE {SEVERAL}")
        connection.execute(f"SELECT pg_sleep({2 * limit_s}) FROM t WHERE id = 1")
        assert connection.execute(f"UPDATE t SET n = n + 1 WHERE {SEVERAL}").rowcount == 8
        for _ in range(4):  # the client is idle for less than the limit each time, and speaks to one group only
            time.sleep(limit_s / 2)
            connection.execute("SELECT n FROM t WHERE id = 1")
        assert connection.execute(f"UPDATE t SET n = n + 1 WHERE {SEVERAL}").rowcount == 8
        assert connection.execute("SHOW idle_in_transaction_session_timeout").fetchone()[0] == f"{int(limit_s * 1000)}ms"
        assert connection.execute("COMMIT").statusmessage == "COMMIT"
    assert endpoint.run(f"UPDATE t SET n = 0 WHERE {SEVERAL} RETURNING n") == [(0,)] * 8


@pytest.mark.parametrize("setting, sqlstate", [("statement_timeout", "57014"), ("lock_timeout", "55P03")])
@pytest.mark.parametrize("sql", [f"UPDATE t SET n = 1 WHERE {ONE}", f"UPDATE t SET n = 1 WHERE {SEVERAL}", "TRUNCATE t",
                                 "ALTER TABLE t ADD COLUMN x int", f"SELECT n FROM t WHERE {SEVERAL} FOR UPDATE"])
def test_who_waits_for_a_lock_too_long(endpoint, setting, sqlstate, sql):
    with endpoint.connect(autocommit=True) as holder, contextlib.closing(RawClient(endpoint)) as client:
        holder.execute("BEGIN")
        holder.execute(f"UPDATE t SET n = 5 WHERE {SEVERAL}")
        client.login()
        client.ask(query(f"SET {setting} = '300ms'"))
        for words in (["BEGIN", sql], [sql]):
            for word in words:
                found = client.ask(query(word))
            [error] = [fields(body) for kind, body in found if kind == "E"]
            assert (error["S"], error["C"]) == ("ERROR", sqlstate)
            client.ask(query("ROLLBACK"))
        holder.execute("ROLLBACK")
    assert endpoint.run("SELECT count(*) FROM t WHERE n = 0") == [(40,)]
