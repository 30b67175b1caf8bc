"""Broken, rude and vanishing clients; and cancellation. The others never notice, and nothing is left behind."""
import struct
import threading
import time

import pytest

from harness.dialect import strip_dialect
from harness.fixtures import SELF_CHECK
from harness.pair import databases
from harness.processes import wait_until
from harness.raw import (GSS_REQUEST, SYNC, TERMINATE, Closed, RawClient, bind, execute, fields, message, parse, query,
                         startup)


@pytest.fixture(scope="module")
def side(router):
    with databases("rude", router) as [made]:
        sql = "CREATE TABLE u (id int PRIMARY KEY, v int) SHARD BY (id)"
        made.run(strip_dialect(sql) if SELF_CHECK else sql,
                 "INSERT INTO u VALUES " + ", ".join(f"({i}, 0)" for i in range(1, 41)))
        yield made


@pytest.fixture
def client(side):
    made = RawClient(side)
    made.login()
    yield made
    made.close()


def error_then_closed(client):
    """The fields of the one error that comes before the server closes the connection."""
    error = None
    try:
        while True:
            kind, body = client.read()
            if kind == "E":
                error = fields(body)
    except Closed:
        return error


@pytest.mark.parametrize("name,bytes_sent", [
    ("unknown_type", message(b"?", b"what")),
    ("length_too_small", b"Q" + struct.pack("!I", 3) + b"x"),
    ("length_negative", b"Q" + struct.pack("!i", -5)),
    ("length_huge", b"Q" + struct.pack("!I", 0x7FFFFFFF) + b"x"),
])
def test_broken_framing_ends_the_connection(client, side, name, bytes_sent):
    client.send(bytes_sent)
    error = error_then_closed(client)
    assert error is None or error["C"] in ("08P01", "54000"), name
    assert side.run("SELECT 1") == [(1,)]


PARSED = parse("SELECT $1::text")


@pytest.mark.parametrize("name,bytes_sent", [
    ("unterminated_query", message(b"Q", b"SELECT 1")),
    ("bind_short", PARSED + message(b"B", b"\0\0\0") + SYNC),
    ("bind_count_too_large", PARSED + message(b"B", b"\0\0" + struct.pack("!HHiH", 0, 9, 1, 0)) + SYNC),
    ("bind_length_too_large", PARSED + message(b"B", b"\0\0" + struct.pack("!HHi", 0, 1, 999) + b"x") + SYNC),
    ("parse_without_count", message(b"P", b"\0SELECT 1\0") + SYNC),
    ("describe_odd_kind", message(b"D", b"X\0") + SYNC),
    ("execute_short", message(b"E", b"\0\0") + SYNC),
    ("trailing_bytes", message(b"S", b"extra")),
])
def test_broken_message_is_a_protocol_error(client, side, name, bytes_sent):
    client.send(bytes_sent)
    try:
        kinds = client.read_until("ZE")
        error = fields(kinds[-1][1]) if kinds[-1][0] == "E" else None
        assert error is not None and error["C"] == "08P01", name
    except Closed:
        pass
    assert side.run("SELECT 1") == [(1,)]


@pytest.mark.parametrize("bytes_sent", [
    struct.pack("!I", 4), struct.pack("!II", 8, 12345), struct.pack("!II", 0x7FFFFFFF, 196608), b"GET / HTTP/1.1\r\n\r\n",
    struct.pack("!II", 8, 196608), struct.pack("!II", 9, 196608) + b"x", startup(database="postgres"),
    struct.pack("!II", 8, 2 << 16),
])
def test_broken_startup(side, bytes_sent):
    client = RawClient(side)
    client.send(bytes_sent)
    try:
        assert client.read()[0] in "EG"
    except (Closed, TimeoutError):
        pass
    client.close()
    assert side.run("SELECT 1") == [(1,)]


def test_gss_request_is_declined(side):
    client = RawClient(side)
    client.send(struct.pack("!II", 8, GSS_REQUEST))
    if SELF_CHECK:
        assert client.receive(1) == b"G"
    else:
        assert client.receive(1) == b"N"
        client.login()
        assert client.ask(query("SELECT 1"))[-1] == ("Z", b"I")
    client.close()


def test_terminate_is_silent(client):
    client.send(TERMINATE)
    assert error_then_closed(client) is None


@pytest.mark.parametrize("how", ["vanish", "close"])
def test_a_vanished_transaction_is_rolled_back(side, how):
    gone = RawClient(side)
    gone.login()
    gone.ask(query("BEGIN; UPDATE u SET v = v + 1"))
    getattr(gone, how)()
    with side.connect() as connection:
        connection.execute("SET lock_timeout = '15s'")
        connection.execute("UPDATE u SET v = v WHERE v = 0")
        assert connection.execute("SELECT count(*), sum(v) FROM u").fetchone() == (40, 0)


def test_vanishing_in_the_middle_of_a_result(side):
    gone = RawClient(side)
    gone.login()
    gone.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)"))
    gone.read()
    gone.vanish()
    assert side.run("SELECT count(*) FROM u") == [(40,)]


@pytest.mark.parametrize("how", ["close", "vanish"])
def test_a_statement_ends_with_its_client(side, how):
    """Also if the client goes in the same moment in which it asks."""
    def running():
        return side.run("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(601)%' AND state = 'active'")

    for _ in range(5):
        made = RawClient(side)
        made.login()
        made.ask(query("SET client_connection_check_interval = '50ms'"))  # one PostgreSQL notices only so
        made.send(query("SELECT pg_sleep(601) FROM (SELECT FROM pg_class LIMIT 1) AS one"))
        getattr(made, how)()
    wait_until(lambda: running() == [(0,)], "the statements to end", timeout_s=10)


def test_half_sent_messages_hold_nobody_up(side):
    stuck = [RawClient(side) for _ in range(8)]
    for number, one in enumerate(stuck):
        one.login()
        one.send(query("SELECT count(*) FROM u")[:number + 2])
    started = time.monotonic()
    assert side.run("SELECT count(*) FROM u") == [(40,)]
    assert time.monotonic() - started < 5
    for number, one in enumerate(stuck):
        one.send(query("SELECT count(*) FROM u")[number + 2:])
        assert one.read_until("Z")[-1] == ("Z", b"I")
        one.close()


def test_a_slow_reader_does_not_hold_others_up(side):
    slow = RawClient(side)
    slow.login()
    slow.send(query("SELECT repeat('x', 1000), g FROM generate_series(1, 50000) g"))
    for _ in range(20):
        assert side.run("SELECT count(*) FROM u") == [(40,)]
    rows = sum(kind == "D" for kind, _ in slow.read_until("Z"))
    assert rows == 50000
    slow.close()


def cancelled(client, sql):
    """The SQLSTATE with which `sql` ends when it is cancelled half a second after its start."""
    client.send(query(sql))
    timer = threading.Timer(0.5, client.cancel)
    timer.start()
    found = [fields(body)["C"] for kind, body in client.read_until("Z") if kind == "E"]
    timer.join()
    return found


@pytest.mark.parametrize("sql", [
    "SELECT pg_sleep(30)",
    "SELECT pg_sleep(30) FROM u WHERE id = 5",
    "SELECT pg_sleep(30) FROM u",
    "UPDATE u SET v = 1 WHERE pg_sleep(30) IS NULL",
])
def test_cancel(client, sql):
    started = time.monotonic()
    assert cancelled(client, sql) == ["57014"]
    assert time.monotonic() - started < 15
    assert client.ask(query("SELECT sum(v) FROM u"))[-1] == ("Z", b"I")


def test_cancel_in_a_transaction(client):
    client.ask(query("BEGIN"))
    client.ask(query("UPDATE u SET v = 5 WHERE id IN (1, 2, 3, 4)"))
    assert cancelled(client, "SELECT pg_sleep(30) FROM u WHERE id = 1") == ["57014"]
    assert client.ask(query("SELECT 1"))[-1] == ("Z", b"E")
    client.ask(query("ROLLBACK"))


def test_cancel_with_a_wrong_key_does_nothing(client):
    process, secret = client.key
    client.send(query("SELECT pg_sleep(1)"))
    client.cancel((process, secret ^ 1))
    client.cancel((process ^ 1, secret))
    assert [kind for kind, _ in client.read_until("Z")] == ["T", "D", "C", "Z"]


def test_late_cancel_hits_nobody(side):
    """Cancels that come when the statement is over must not strike the next client of the same backend."""
    clients = [RawClient(side) for _ in range(4)]
    for one in clients:
        one.login()
    for number in range(60):
        one, other = clients[number % 4], clients[(number + 1) % 4]
        one.ask(query("SELECT count(*) FROM u"))
        timer = threading.Thread(target=one.cancel)
        timer.start()
        answers = other.ask(query(f"SELECT v, pg_sleep(0.005) FROM u WHERE id = {1 + number % 40}"))
        timer.join()
        assert [fields(body) for kind, body in answers if kind == "E"] == []
    for one in clients:
        one.close()


def test_cancel_between_pipelined_statements(client):
    client.send(parse("SELECT pg_sleep($1)", "s"), *[bind([str(pause)], "s") + execute() for pause in (0, 30, 0)], SYNC)
    timer = threading.Timer(0.5, client.cancel)
    timer.start()
    messages = client.read_until("Z")
    timer.join()
    assert [kind for kind, _ in messages] == ["1", "2", "D", "C", "2", "E", "Z"]


def test_many_connections_leave_nothing(side):
    for _ in range(5):
        many = [RawClient(side) for _ in range(40)]
        for number, one in enumerate(many):
            if number % 3:
                one.login()
            if number % 3 == 1:
                one.send(query("SELECT pg_sleep(0.05)"))
            one.vanish()
    with side.connect() as connection:
        def quiet():
            return connection.execute("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' "
                                      "AND query LIKE 'SELECT pg_sleep%'").fetchone() == (0,)
        wait_until(quiet, "the statements of vanished clients to end", timeout_s=15)
