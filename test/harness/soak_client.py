"""One client of the soak: it writes rows that only it owns, so it knows what every read of them must find.

An error may leave a write in doubt (done or not, but never half). The rows of such a write are put aside as one
`Doubt` and judged in the end; the client goes on with other rows.
"""
import dataclasses
import threading
import time

import psycopg


@dataclasses.dataclass
class Doubt:
    """A write of unknown outcome: `before` and `after` are the only answers allowed to `sql`."""
    sql: str
    before: object
    after: object


class Wrong(Exception):
    """An answer that cannot be."""


class Client:
    def __init__(self, endpoint, number, rng):
        self.endpoint, self.number, self.random = endpoint, number, rng
        self.connection = None
        self.accounts = {}  # id -> balance
        self.entries = {}  # n -> text
        self.next_id = number * 1_000_000
        self.doubts = []
        self.problems = []
        self.done = self.failed = 0
        self.doing = ""

    def run(self, calm):
        while not calm.is_set() and len(self.problems) < 5:
            try:
                if self.connection is None or self.connection.closed:
                    self.connection = self.endpoint.connect(prepare_threshold=self.random.choice([0, 2, None]))
                self.step()
                self.done += 1
            except Wrong as wrong:
                self.problems.append(str(wrong))
            except (psycopg.Error, OSError):
                self.failed += 1
                self.drop_connection()
                time.sleep(self.random.random() / 5)
        self.drop_connection()

    def drop_connection(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def step(self):
        actions = [(self.add_accounts, 8), (self.transfer, 14), (self.read_account, 30), (self.read_accounts, 8),
                   (self.add_entries, 8), (self.copy_entries, 3), (self.change_entry, 8), (self.remove_entry, 4),
                   (self.count_entries, 8), (self.pipeline, 4), (self.big_answer, 1), (self.cancel, 1),
                   (self.session_state, 5), (self.reconnect, 1)]
        [action] = self.random.choices([action for action, _ in actions], [weight for _, weight in actions])
        self.doing = action.__name__
        action()

    def expect(self, sql, wanted, found):
        if found != wanted:
            raise Wrong(f"{sql}: {found!r}, must be {wanted!r}")

    def new_ids(self, count):
        self.next_id += count
        return list(range(self.next_id - count, self.next_id))

    # Writes. Each says before it starts what it will be in doubt about.

    def write(self, doubt, function):
        """Runs `function`; any failure leaves the doubt behind."""
        try:
            function()
        except (psycopg.Error, OSError):
            self.doubts.append(doubt)
            raise

    def add_accounts(self):
        ids = self.new_ids(self.random.randint(1, 6))
        values = ", ".join(f"({key}, {self.number}, 1000)" for key in ids)
        keys = ", ".join(map(str, ids))
        self.write(Doubt(f"SELECT count(*) FROM account WHERE id IN ({keys})", 0, len(ids)),
                   lambda: self.connection.execute(f"INSERT INTO account VALUES {values}"))
        self.accounts.update((key, 1000) for key in ids)

    def transfer(self):
        """Money moves between two accounts in one transaction: both rows change, or none."""
        if len(self.accounts) < 2:
            return
        one, other = self.random.sample(list(self.accounts), 2)
        amount = self.random.randint(1, 50)
        before = (self.accounts[one], self.accounts[other])
        after = (before[0] - amount, before[1] + amount)
        sql = f"SELECT id, balance FROM account WHERE id IN ({one}, {other})"
        roll_back = self.random.random() < 0.15

        def move():
            with self.connection.transaction(force_rollback=roll_back):
                self.connection.execute("UPDATE account SET balance = balance - %s WHERE id = %s", (amount, one))
                self.connection.execute("UPDATE account SET balance = balance + %s WHERE id = %s", (amount, other))
                seen = self.connection.execute("SELECT balance FROM account WHERE id = %s", (one,)).fetchone()
                self.expect("own write", (after[0],), seen)

        try:
            self.write(Doubt(sql, {one: before[0], other: before[1]}, {one: after[0], other: after[1]}), move)
        except (psycopg.Error, OSError):
            del self.accounts[one], self.accounts[other]
            raise
        if not roll_back:
            self.accounts[one], self.accounts[other] = after

    def add_entries(self):
        numbers = self.new_ids(self.random.randint(1, 5))
        text = f"text of {self.number}"
        with_names = ", ".join("(%s, %s, %s)" for _ in numbers)
        values = [item for number in numbers for item in (self.number, number, text)]
        self.write(self.entry_doubt(numbers, 0, len(numbers)),
                   lambda: self.connection.execute(f"INSERT INTO entry VALUES {with_names}", values))
        self.entries.update((number, text) for number in numbers)

    def entry_doubt(self, numbers, before, after):
        keys = ", ".join(map(str, numbers))
        return Doubt(f"SELECT count(*) FROM entry WHERE owner = {self.number} AND n IN ({keys})", before, after)

    def copy_entries(self):
        numbers = self.new_ids(self.random.randint(50, 300))

        def copy():
            with self.connection.cursor().copy("COPY entry FROM STDIN") as stream:
                for number in numbers:
                    stream.write_row((self.number, number, "copied"))

        self.write(self.entry_doubt(numbers, 0, len(numbers)), copy)
        self.entries.update((number, "copied") for number in numbers)

    def change_entry(self):
        if not self.entries:
            return
        number = self.random.choice(list(self.entries))
        text = f"changed {self.random.randrange(1000)}"
        old = self.entries.pop(number)
        self.write(Doubt(f"SELECT text FROM entry WHERE owner = {self.number} AND n = {number}", old, text),
                   lambda: self.connection.execute("UPDATE entry SET text = %s WHERE owner = %s AND n = %s",
                                                   (text, self.number, number)))
        self.entries[number] = text

    def remove_entry(self):
        if len(self.entries) < 20:
            return
        number = self.random.choice(list(self.entries))
        del self.entries[number]
        self.write(self.entry_doubt([number], 1, 0), lambda: self.connection.execute(
            "DELETE FROM entry WHERE owner = %s AND n = %s", (self.number, number)))

    # Reads

    def read_account(self):
        if not self.accounts:
            return
        key = self.random.choice(list(self.accounts))
        sql = "SELECT balance, owner FROM account WHERE id = %s"
        found = self.connection.execute(sql, (key,), binary=self.random.random() < 0.3).fetchall()
        self.expect(f"account {key}", [(self.accounts[key], self.number)], found)

    def read_accounts(self):
        keys = self.random.sample(list(self.accounts), min(len(self.accounts), 8))
        sql = "SELECT id, balance FROM account WHERE id = ANY(%s) ORDER BY id DESC"
        found = self.connection.execute(sql, (keys,)).fetchall()
        self.expect(f"accounts {keys}", [(key, self.accounts[key]) for key in sorted(keys, reverse=True)], found)

    def count_entries(self):
        """An aggregate over all groups, restricted to what this client has not in doubt."""
        keys = self.random.sample(list(self.entries), min(len(self.entries), 10))
        sql = "SELECT count(*), min(n), max(n) FROM entry WHERE n = ANY(%s)"
        found = self.connection.execute(sql, (keys,)).fetchone()
        self.expect("entries", (len(keys), min(keys, default=None), max(keys, default=None)), found)
        sql = "SELECT e.text, k.name FROM entry e JOIN kind k ON k.id = e.n % 10 WHERE e.owner = %s AND e.n = %s"
        if keys:
            found = self.connection.execute(sql, (self.number, keys[0])).fetchall()
            self.expect("join", [(self.entries[keys[0]], f"kind {keys[0] % 10}")], found)

    def pipeline(self):
        keys = self.random.choices(list(self.accounts), k=10) if self.accounts else []
        with self.connection.pipeline():
            cursors = [self.connection.execute("SELECT balance FROM account WHERE id = %s", (key,)) for key in keys]
        self.expect("pipeline", [(self.accounts[key],) for key in keys], [cursor.fetchone() for cursor in cursors])

    def big_answer(self):
        found = self.connection.execute("SELECT repeat('x', 2000), g FROM generate_series(1, 2000) g").fetchall()
        self.expect("big answer", (2000, 2000), (len(found), found[-1][1]))

    def cancel(self):
        timer = threading.Timer(0.1, self.connection.cancel)
        timer.start()
        try:
            self.connection.execute("SELECT pg_sleep(5) FROM account WHERE id = %s", (self.next_id,))
            self.connection.execute("SELECT pg_sleep(5)")
        except psycopg.errors.QueryCanceled:
            pass
        finally:
            timer.join()

    def session_state(self):
        """Settings, temporary tables, locks, cursors: state that no other client may ever see."""
        execute = self.connection.execute
        value = f"{self.random.randint(100, 900)}kB"
        execute(f"SET work_mem = '{value}'")
        name = f"client {self.number}"
        execute(f"SET application_name = '{name}'")
        self.expect("work_mem", (value, name), execute(
            "SELECT current_setting('work_mem'), current_setting('application_name')").fetchone())
        form = self.random.randrange(4)
        if form == 0:
            execute("CREATE TEMP TABLE scratch AS SELECT generate_series(1, 5) AS n")
            self.expect("temporary table", (5,), execute("SELECT count(*) FROM scratch").fetchone())
            execute("DROP TABLE scratch")
        elif form == 1:
            execute("SELECT pg_advisory_lock(%s)", (self.number,))
            self.expect("unlock", (True,), execute("SELECT pg_advisory_unlock(%s)", (self.number,)).fetchone())
        elif form == 2:
            with self.connection.transaction():
                execute("SET LOCAL statement_timeout = '77s'")
                self.expect("local", ("77s",), execute("SHOW statement_timeout").fetchone())
            self.expect("after local", ("0",), execute("SHOW statement_timeout").fetchone())
        else:
            execute("PREPARE mine AS SELECT $1::int + 1")
            self.expect("execute", (6,), execute("EXECUTE mine (5)").fetchone())
            execute("DEALLOCATE mine")
        execute("RESET ALL")
        self.expect("reset", True, execute("SHOW work_mem").fetchone() != (value,))

    def reconnect(self):
        self.drop_connection()

    # The end

    def verify(self):
        """What is wrong with the rows now that nothing is under fire any more."""
        found = []
        with self.endpoint.connect() as connection:
            rows = dict(connection.execute("SELECT id, balance FROM account WHERE owner = %s", (self.number,)).fetchall())
            for key, balance in self.accounts.items():
                if rows.get(key) != balance:
                    found.append(f"account {key} is {rows.get(key)}, must be {balance}")
            rows = dict(connection.execute("SELECT n, text FROM entry WHERE owner = %s", (self.number,)).fetchall())
            for number, text in self.entries.items():
                if rows.get(number) != text:
                    found.append(f"entry {number} is {rows.get(number)}, must be {text}")
            for doubt in self.doubts:
                answer = connection.execute(doubt.sql).fetchall()
                seen = dict(answer) if isinstance(doubt.before, dict) else answer[0][0]
                if seen not in (doubt.before, doubt.after):
                    found.append(f"half done: {doubt.sql}: {seen}, must be {doubt.before} or {doubt.after}")
        return found[:10]
