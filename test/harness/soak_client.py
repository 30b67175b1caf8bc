"""One client of the soak: it writes rows that only it owns, so it knows what every read of them must find.

An error may leave a write in doubt (done or not, but never half). The rows of such a write are put aside as one
`Doubt` and judged in the end; the client goes on with other rows. What it does is in soak_statements.py.
"""
import dataclasses
import time

import psycopg

from harness.soak_statements import Statements

SESSION_STATE_EVERY = 20  # each such client keeps state in its session: 5 %


@dataclasses.dataclass(frozen=True)
class Table:
    """How a client finds its own rows: `value` by `key` where `own` holds."""
    key: str
    value: str
    own: str


TABLES = {
    "account": Table("id", "balance", "owner = {number}"),
    "entry": Table("n", "text", "owner = {number}"),
    "rate": Table("id", "n", "id % 1000 = {number}"),
    "note": Table("id", "text", "owner = {number}"),
}


@dataclasses.dataclass
class Doubt:
    """A write of unknown outcome: {key: value} before and after; a key that is not there has no row."""
    table: str
    keys: list
    before: dict
    after: dict


class Wrong(Exception):
    """An answer that cannot be."""


class Client(Statements):
    def __init__(self, endpoint, number, rng):
        self.endpoint, self.number, self.random = endpoint, number, rng
        self.keeps_state = number % SESSION_STATE_EVERY == 0
        self.connection = None
        self.state = None  # of the session, for a client that keeps some
        self.rows = {table: {} for table in TABLES}  # what is there: {key: value}
        self.next_id = number * 1_000_000
        self.doubts = []
        self.problems = []
        self.done = self.failed = 0
        self.doing = ""

    def run(self, peace, over):
        """Until `over`. Once there is `peace`, nothing may fail any more."""
        while not over.is_set() and len(self.problems) < 5:
            peaceful = peace.is_set()
            try:
                if self.connection is None or self.connection.closed:
                    self.doing = "connect"
                    self.connect()
                self.step()
                self.done += 1
            except Wrong as wrong:
                self.problems.append(f"{self.doing}: {wrong}")
                self.drop_connection()
            except (psycopg.Error, OSError) as error:
                self.failed += 1
                if complaint := self.complaint(error, peaceful):
                    self.problems.append(f"{self.doing} {complaint}: {error!r}")
                self.drop_connection()
                time.sleep(self.random.random() / 5)
            except Exception as error:  # a driver that lost the thread: the protocol was wrong
                self.problems.append(f"{self.doing}: {error!r}")
                self.drop_connection()
        self.drop_connection()

    def complaint(self, error, peaceful):
        """What is wrong about an error, if anything."""
        del error
        return "failed in peace" if peaceful else None

    def connect(self):
        # psycopg's own prepared statements go with DEALLOCATE ALL after a ROLLBACK, and the kept one with them.
        threshold = None if self.keeps_state else self.random.choice([0, 2, None])
        self.connection = self.endpoint.connect(prepare_threshold=threshold)
        self.state = None
        if self.keeps_state:
            self.make_state()

    def drop_connection(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def expect(self, what, wanted, found):
        if found != wanted:
            raise Wrong(f"{what}: {found!r}, must be {wanted!r}")

    def new_ids(self, count):
        self.next_id += count
        return list(range(self.next_id - count, self.next_id))

    def known(self, table, most):
        """Up to `most` keys of rows that are not in doubt."""
        keys = list(self.rows[table])
        return self.random.sample(keys, min(len(keys), most))

    def write(self, table, changes, function):
        """Runs `function`, which makes `changes` ({key: new value, None: no row}) or, failing, leaves them in doubt."""
        rows = self.rows[table]
        before = {key: rows.pop(key) for key in changes if key in rows}
        after = {key: value for key, value in changes.items() if value is not None}
        try:
            function()
        except Exception:
            self.doubts.append(Doubt(table, list(changes), before, after))
            raise
        rows.update(after)

    # The end

    def verify(self):
        """What is wrong with the rows now that nothing is under fire any more; every row is counted."""
        found = []
        with self.endpoint.connect() as connection:
            for name, table in TABLES.items():
                own = table.own.format(number=self.number)
                seen = dict(connection.execute(f"SELECT {table.key}, {table.value} FROM {name} WHERE {own}").fetchall())
                for doubt in self.doubts:
                    if doubt.table == name:
                        answer = {key: seen.pop(key) for key in doubt.keys if key in seen}
                        if answer not in (doubt.before, doubt.after):
                            found.append(f"{name}, half done: {answer}, must be {doubt.before} or {doubt.after}")
                for key in self.rows[name].keys() | seen.keys():
                    wanted = self.rows[name].get(key)
                    if seen.get(key) != wanted:
                        found.append(f"{name} {key} is {seen.get(key)!r}, must be {wanted!r}")
        return found[:10]
