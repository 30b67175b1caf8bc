"""Many sessions with random settings over few backends: no session ever sees another's state."""
import random

import pytest

from harness.dialect import strip_dialect
from harness.fixtures import SELF_CHECK
from harness.pair import databases
from harness.processes import wait_until
from harness.wire import Session

SETTINGS = {
    "work_mem": ["1MB", "2MB", "3MB", "64kB"],
    "search_path": ["a", "b", "public", "a, b"],
    "statement_timeout": ["91s", "92s", "0"],
    "TimeZone": ["UTC", "Asia/Tokyo", "America/New_York"],
    "DateStyle": ["ISO, MDY", "German, DMY", "SQL, DMY"],
    "application_name": ["one", "two", ""],
    "extra_float_digits": ["0", "1", "-1"],
    "bytea_output": ["hex", "escape"],
    "default_transaction_isolation": ["repeatable read", "read committed"],
    "my.own": ["x", "y"],
    "client_min_messages": ["warning", "notice"],
}


class Model:
    """What a session's settings are by PostgreSQL's rules: a stack of transaction levels, SET LOCAL apart."""

    def __init__(self, defaults):
        self.defaults = dict(defaults)
        self.levels = [(dict(defaults), {})]  # (session values, local values) per open savepoint level

    def copy_level(self):
        values, local = self.levels[-1]
        self.levels.append((dict(values), dict(local)))

    def set(self, name, value, local=False):
        values, locals_ = self.levels[-1]
        if local:
            locals_[name] = value
        else:
            values[name] = value
            locals_.pop(name, None)

    def shown(self, name):
        values, local = self.levels[-1]
        return local.get(name, values[name])

    def end(self, commit):
        values = dict(self.levels[-1][0]) if commit else self.levels[0][0]
        self.levels = [(values, {})]

    def rollback_to(self):
        self.levels.pop()
        self.copy_level()

    def release(self):
        top = self.levels.pop()
        self.levels[-1] = top


class Actor:
    def __init__(self, endpoint, number, rng):
        self.session = Session(endpoint)
        self.random = rng
        self.number = number
        self.in_block = False
        self.history = []
        self.model = Model({name: self.ask(f"SHOW {name}") for name in SETTINGS if name != "my.own"} | {"my.own": ""})

    def ask(self, sql, extended=False):
        self.history.append(sql)
        answer = (self.session.extended(sql) if extended else self.session.simple(sql))[-1]
        assert not answer.sqlstate, f"session {self.number}: {answer.brief()}\n" + "\n".join(self.history[-20:])
        return answer.rows[0][0].decode() if answer.rows and answer.rows[0][0] is not None else ""

    def check(self, name):
        table = self.random.choice(["", f" FROM public.s WHERE id = {self.random.randrange(40)}"])
        seen = self.ask(f"SELECT current_setting('{name}', true){table}", extended=self.random.random() < 0.5)
        wanted = self.model.shown(name)
        assert seen == wanted, f"session {self.number}: {name} is {seen}, must be {wanted}\n" + "\n".join(self.history[-20:])

    def step(self):
        name = self.random.choice(list(SETTINGS))
        value = self.random.choice(SETTINGS[name])
        quoted = value if name == "search_path" else f"'{value}'"
        form = self.random.randrange(12)
        if form < 5:
            self.check(name)
        elif form < 7:
            self.ask(f"SET {name} = {quoted}", extended=form == 6)
            self.model.set(name, value)
        elif form == 7:
            self.ask(f"SELECT set_config('{name}', '{value}', false)")
            self.model.set(name, value)
        elif form == 8:
            self.ask(f"RESET {name}")
            self.model.set(name, self.model.defaults[name])
        else:
            self.transaction_step(form, name, value, quoted)

    def transaction_step(self, form, name, value, quoted):
        if not self.in_block:
            if form == 9 and self.random.random() < 0.2:
                self.ask("DISCARD ALL")
                for each, default in self.model.defaults.items():
                    self.model.set(each, default)
                return
            self.ask("BEGIN")
            self.in_block = True
            self.model.copy_level()
        elif form == 9:
            self.ask(f"SET LOCAL {name} = {quoted}")
            self.model.set(name, value, local=True)
        elif form == 10:
            self.ask("SAVEPOINT s")
            self.model.copy_level()
            if self.random.random() < 0.7:
                self.ask(f"SET {name} = {quoted}")
                self.model.set(name, value)
            if self.random.random() < 0.6:
                self.ask("ROLLBACK TO s")
                self.model.rollback_to()
            self.ask("RELEASE s")
            self.model.release()
        else:
            self.finish()

    def finish(self):
        commit = self.random.random() < 0.5
        if not commit and self.random.random() < 0.3:
            self.session.simple("SELECT 1/0")
        self.ask("COMMIT" if commit else "ROLLBACK")
        self.in_block = False
        self.model.end(commit)


@pytest.fixture(scope="module")
def side(router):
    with databases("session_states", router) as [made]:
        sql = "CREATE TABLE s (id int PRIMARY KEY) SHARD BY (id)"
        made.run(strip_dialect(sql) if SELF_CHECK else sql, "CREATE SCHEMA a", "CREATE SCHEMA b",
                 "INSERT INTO s VALUES " + ", ".join(f"({number})" for number in range(40)))
        yield made


@pytest.mark.parametrize("seed", range(4))
def test_settings_stay_with_their_session(side, seed):
    rng = random.Random(seed)
    actors = [Actor(side, number, rng) for number in range(24)]
    for _ in range(1500):
        rng.choice(actors).step()
    for actor in actors:
        if actor.in_block:
            actor.finish()
        for name in SETTINGS:
            actor.check(name)
        actor.session.close()


def test_a_new_session_starts_clean(side):
    first = Session(side)
    for name, values in SETTINGS.items():
        quoted = values[0] if name == "search_path" else f"'{values[0]}'"
        assert not first.simple(f"SET {name} = {quoted}")[0].sqlstate
    first.simple("CREATE TEMP TABLE left_over (a int)")
    first.simple("PREPARE left_over AS SELECT 1")
    first.simple("SELECT pg_advisory_lock(77)")
    first.simple("LISTEN left_over")
    first.close()
    for _ in range(30):
        fresh = Session(side)
        assert fresh.simple("SHOW work_mem")[0].rows != [(b"1MB",)]
        assert fresh.simple("SELECT * FROM left_over")[0].sqlstate == "42P01"
        assert fresh.simple("EXECUTE left_over")[0].sqlstate == "26000"
        assert fresh.simple("SELECT current_setting('my.own', true)")[0].rows[0][0] in (None, b"")
        assert fresh.simple("SELECT count(*) FROM pg_listening_channels()")[0].rows == [(b"0",)]
        fresh.close()
    with side.connect() as connection:
        connection.execute("SET lock_timeout = '10s'")
        assert connection.execute("SELECT pg_advisory_lock(77)") and connection.execute("SELECT pg_advisory_unlock(77)")


def test_listen_and_notify(side):
    listener, sender = Session(side), Session(side)
    listener.simple("LISTEN news")
    sender.simple("NOTIFY news, 'hello'")
    sender.simple("SELECT pg_notify('news', 'again')")
    got = []

    def arrived():
        assert not listener.simple("SELECT 1")[0].sqlstate
        while (notice := listener.connection.notifies()) is not None:
            got.append((notice.relname, notice.extra))
        return len(got) >= 2

    wait_until(arrived, "two notifications", timeout_s=10)
    assert got == [(b"news", b"hello"), (b"news", b"again")]
    listener.simple("UNLISTEN *")
    listener.close()
    sender.close()
