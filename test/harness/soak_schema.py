"""Who changes the schema during a soak, and who visits what comes and goes.

A `Changer` owns its tables, so it knows what every schema change that was acknowledged must have left. One whose connection died may
be done or not, never half: its table is put aside as one `Doubt` and judged in the end. A `Visitor` uses the tables of all changers;
the `Ledger` knows when a table, a column or a label may have been away, so that it can tell an error that one PostgreSQL could have
given from one that it could not.
"""
import dataclasses
import threading
import time

import psycopg

from harness.processes import PATIENCE
from harness.soak_client import Client

# Tables of the statements of soak_statements.py: columns, indexes and constraints of these come and go as well.
SHARED = ["account", "entry", "kind", "rate", "note"]
KINDS = {"sharded": " SHARD BY (id) WITH (shard_count = 8)", "other key": " SHARD BY (owner, id) WITH (shard_count = 4)",
         "reference": " WITH (table_type = 'reference')", "local": ""}
LOOK = """
SELECT coalesce((SELECT table_type FROM pgmosaic.tables WHERE schema_name = 'public' AND table_name = {name}), 'local'),
       (SELECT json_agg(json_build_array(attname, format_type(atttypid, atttypmod)) ORDER BY attname)
        FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
       (SELECT coalesce(json_agg(relname ORDER BY relname), '[]') FROM pg_index i JOIN pg_class x ON x.oid = indexrelid
        WHERE indrelid = c.oid AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = x.oid)),
       (SELECT coalesce(json_agg(conname ORDER BY conname), '[]') FROM pg_constraint WHERE conrelid = c.oid AND contype IN ('c', 'u')),
       (SELECT min(v.relname) FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refobjid = c.oid)
FROM pg_class c WHERE relname = {name} AND relnamespace = 'public'::regnamespace"""


def lost(error):
    """Whether a connection, a backend or a server was lost, so that what was asked for may be done or not."""
    state = getattr(error, "sqlstate", None)
    if state is None:  # psycopg makes another error of one at ROLLBACK TO SAVEPOINT
        return isinstance(error, (OSError, psycopg.OperationalError, psycopg.InterfaceError,
                                  psycopg.transaction.OutOfOrderTransactionNesting))
    return state[:2] == "08" or state in ("57P01", "57P02", "57P03")


class Steady(Client):
    """A client of the other soak: its statements name columns that stay, so it must notice nothing of the schema's changes."""

    def complaint(self, error, peaceful):
        # 25P02: the backend was lost at a ROLLBACK TO SAVEPOINT, whose error psycopg only logs.
        return "failed" if peaceful or not lost(error) and getattr(error, "sqlstate", None) != "25P02" else None


class Ledger:
    """When something was away: [from, until] by the clock, `until` None while it is."""

    def __init__(self):
        self.lock = threading.Lock()
        self.away = {}

    def may_go(self, *keys):
        """Told before the statement that takes them away."""
        with self.lock:
            for key in keys:
                times = self.away.setdefault(key, [])
                if not times or times[-1][1] is not None:
                    times.append([time.monotonic(), None])

    def is_there(self, *keys):
        """Told when it is certain that they are there."""
        with self.lock:
            for key in keys:
                times = self.away.setdefault(key, [[0, None]])  # never seen before: not there until now
                if times and times[-1][1] is None:
                    times[-1][1] = time.monotonic()

    def was_there(self, key, since):
        """Whether it was there all the time since then."""
        with self.lock:
            times = self.away.get(key)
            return times is not None and all(until is not None and until < since for _, until in times)


@dataclasses.dataclass(frozen=True)
class Shape:
    """What a table is like."""
    kind: str
    columns: frozenset  # of (name, type)
    indexes: frozenset = frozenset()
    constraints: frozenset = frozenset()
    view: str = ""

    def but(self, **changes):
        return dataclasses.replace(self, **changes)

    def extra(self):
        return sorted(name for name, _ in self.columns if name.startswith("x"))


@dataclasses.dataclass
class Slot:
    """A place for a table, which may be there or not."""
    name: str
    shape: Shape = None


@dataclasses.dataclass
class Doubt:
    """A table after a schema change of unknown outcome: {name: shape} before and after."""
    before: dict
    after: dict


class Wrong(Exception):
    """What cannot be."""


BASE = frozenset({("id", "bigint"), ("owner", "integer"), ("v", "integer")})


class Session:
    """What changers and visitors have in common: a connection that comes back, and problems."""

    def __init__(self, endpoint, number, rng, ledger):
        self.endpoint, self.number, self.random, self.ledger = endpoint, number, rng, ledger
        self.connection = None
        self.problems = []
        self.done = self.failed = 0
        self.doing = ""

    def run(self, peace, over):
        """Until `over`. Once there is `peace`, no connection may be lost any more."""
        while not over.is_set() and len(self.problems) < 5:
            peaceful = peace.is_set()
            try:
                if self.connection is None or self.connection.closed:
                    self.doing = "connect"
                    self.connect()
                self.step()
                self.done += 1
            except (psycopg.Error, OSError) as error:
                self.failed += 1
                if peaceful or not lost(error):
                    self.problems.append(f"{self.doing}: {getattr(error, 'sqlstate', None)} {error!r}")
                self.drop_connection()
                over.wait(self.random.random() / 5)
            except Exception as error:  # Wrong, or a driver that lost the thread
                self.problems.append(f"{self.doing}: {error!r}")
                self.drop_connection()
        self.drop_connection()

    def connect(self):
        self.connection = self.endpoint.connect()

    def drop_connection(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def execute(self, sql, *arguments, **more):
        self.doing = sql
        return self.connection.execute(sql, *arguments, **more)


class Changer(Session):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.serial = 0
        self.slots = [Slot(self.new_name("t")) for _ in range(3)]
        self.doubts = []
        self.type = None  # (name, labels) of an enum
        self.old_types = []

    def new_name(self, prefix):
        self.serial += 1
        return f"{prefix}{self.number}_{self.serial}"

    def step(self):
        slot = self.random.choice(self.slots)
        if self.random.random() < 0.15:
            return self.change_shared()
        if self.random.random() < 0.15:
            return self.look_at(slot)
        if self.type is None or self.random.random() < 0.08:
            return self.change_type()
        if slot.shape is None:
            return self.create(slot)
        actions = [(self.drop, 2), (self.replace, 2), (self.rename, 1), (self.add_column, 6), (self.drop_column, 3),
                   (self.change_column, 2), (self.rename_column, 1), (self.add_index, 3), (self.drop_index, 2), (self.add_constraint, 2),
                   (self.drop_constraint, 1), (self.change_view, 2), (self.several, 2), (self.taken_back, 2), (self.refused, 1),
                   (self.rebuild_index, 1), (self.add_computed_column, 2)]
        [action] = self.random.choices([action for action, _ in actions], [weight for _, weight in actions])
        return action(slot)

    # How a change is made, and what is known then

    def change(self, slot, statements, shape, name=None, gone=()):
        """Runs the statements, in a transaction if they are several; then the table is `name` and of that shape.

        `gone`: what the change takes away from those that use the table (what it brings is told to the ledger in the end)."""
        name = name or slot.name
        doubt = Doubt({slot.name: slot.shape}, {slot.name: None, name: shape} if name != slot.name else {name: shape})
        self.ledger.may_go(*gone)
        try:
            if len(statements) == 1:
                self.execute(statements[0])
            else:
                with self.connection.transaction():
                    for sql in statements:
                        self.execute(sql)
                    self.doing = "COMMIT"
        except (psycopg.Error, OSError) as error:
            if not lost(error):
                self.tell(slot)  # nothing has changed
                if len(statements) > 1 and getattr(error, "sqlstate", None) == "40P01":
                    return  # in a block it cannot give way: see docs/consistency.md
                raise
            self.ledger.may_go(*keys_of(slot.name, slot.shape))
            self.doubts.append(doubt)
            slot.name, slot.shape = self.new_name("t"), None
            raise
        slot.name, slot.shape = name, shape
        self.tell(slot)

    def tell(self, slot):
        if slot.shape is not None:
            self.ledger.is_there(*keys_of(slot.name, slot.shape))

    def create_sql(self, name, kind):
        key = "PRIMARY KEY (owner, id)" if kind == "other key" else "PRIMARY KEY (id)"
        return f"CREATE TABLE {name} (id bigint, owner int, v int, {key}){KINDS[kind]}"

    def create(self, slot):
        kind = self.random.choice(list(KINDS))
        self.change(slot, [self.create_sql(slot.name, kind)], Shape(kind, BASE))

    def drop(self, slot):
        cascade = " CASCADE" if slot.shape.view else ""
        self.change(slot, [f"DROP TABLE {slot.name}{cascade}"], None, gone=keys_of(slot.name, slot.shape))

    def replace(self, slot):
        """Another table of the same name and kind in one transaction: nobody may find it gone, only its columns."""
        kind = slot.shape.kind
        gone = [key for key in keys_of(slot.name, slot.shape) if len(key) == 2 and key[1].startswith("x")]
        self.change(slot, [f"DROP TABLE {slot.name} CASCADE", self.create_sql(slot.name, kind)], Shape(kind, BASE), gone=gone)

    def rename(self, slot):
        name = self.new_name("t")
        self.change(slot, [f"ALTER TABLE {slot.name} RENAME TO {name}"], slot.shape, name, keys_of(slot.name, slot.shape))

    def added_column(self, shape):
        name = self.new_name("x")
        enum = (self.type[0], f"'{self.type[1][-1]}'")
        kind, default = self.random.choice([("integer", "7"), ("text", "'seven'"), ("numeric", None), enum])
        sql = f"ADD COLUMN {name} {kind}" + (f" DEFAULT {default}" if default else "")
        return sql, shape.but(columns=shape.columns | {(name, kind)})

    def add_column(self, slot):
        sql, shape = self.added_column(slot.shape)
        self.change(slot, [f"ALTER TABLE {slot.name} {sql}"], shape)

    def add_computed_column(self, slot):
        """The default goes again: COPY would have to compute it."""
        name = self.new_name("x")
        kind, default = self.random.choice([("double precision", "random()"), ("timestamp with time zone", "now()"),
                                            ("bigint", "nextval('numbers')")])
        self.change(slot, [f"ALTER TABLE {slot.name} ADD COLUMN {name} {kind} DEFAULT {default}",
                           f"ALTER TABLE {slot.name} ALTER COLUMN {name} DROP DEFAULT"],
                    slot.shape.but(columns=slot.shape.columns | {(name, kind)}))

    def drop_column(self, slot):
        for name in self.random.sample(slot.shape.extra(), min(1, len(slot.shape.extra()))):
            shape = slot.shape.but(columns=frozenset(column for column in slot.shape.columns if column[0] != name))
            self.change(slot, [f"ALTER TABLE {slot.name} DROP COLUMN {name}"], shape, gone=[(slot.name, name)])

    def change_column(self, slot):
        """Another type for v, unless a view reads it."""
        if slot.shape.view:
            return
        old, = (kind for name, kind in slot.shape.columns if name == "v")
        new = "bigint" if old == "integer" else "integer"
        columns = slot.shape.columns - {("v", old)} | {("v", new)}
        self.change(slot, [f"ALTER TABLE {slot.name} ALTER COLUMN v TYPE {new}"], slot.shape.but(columns=columns))

    def rename_column(self, slot):
        for old in self.random.sample(slot.shape.extra(), min(1, len(slot.shape.extra()))):
            new = self.new_name("x")
            columns = frozenset((new if name == old else name, kind) for name, kind in slot.shape.columns)
            self.change(slot, [f"ALTER TABLE {slot.name} RENAME COLUMN {old} TO {new}"], slot.shape.but(columns=columns),
                        gone=[(slot.name, old)])

    def add_index(self, slot):
        name = self.new_name("i")
        how = self.random.choice(["INDEX", "INDEX CONCURRENTLY"])
        sql = self.random.choice([f"CREATE {how} {name} ON {slot.name} (v)", f"CREATE {how} {name} ON {slot.name} (owner) WHERE v > 5",
                                  f"CREATE UNIQUE {how} {name} ON {slot.name} (id, owner, v)"])
        self.change(slot, [sql], slot.shape.but(indexes=slot.shape.indexes | {name}))

    def drop_index(self, slot):
        for name in sorted(slot.shape.indexes)[:1]:
            how = self.random.choice(["INDEX", "INDEX CONCURRENTLY"])
            self.change(slot, [f"DROP {how} {name}"], slot.shape.but(indexes=slot.shape.indexes - {name}))

    def rebuild_index(self, slot):
        for name in sorted(slot.shape.indexes)[:1]:
            self.change(slot, [self.random.choice([f"REINDEX INDEX CONCURRENTLY {name}", f"REINDEX TABLE CONCURRENTLY {slot.name}"])],
                        slot.shape)

    def add_constraint(self, slot):
        name = self.new_name("k")
        sql = self.random.choice(["CHECK (v > -1000)", "UNIQUE (id, owner)", "CHECK (v > -1000) NOT VALID"])
        shape = slot.shape.but(constraints=slot.shape.constraints | {name})
        self.change(slot, [f"ALTER TABLE {slot.name} ADD CONSTRAINT {name} {sql}"], shape)

    def drop_constraint(self, slot):
        for name in sorted(slot.shape.constraints)[:1]:
            self.change(slot, [f"ALTER TABLE {slot.name} DROP CONSTRAINT {name}"],
                        slot.shape.but(constraints=slot.shape.constraints - {name}))

    def change_view(self, slot):
        if slot.shape.view:
            self.change(slot, [f"DROP VIEW {slot.shape.view}"], slot.shape.but(view=""))
        else:
            name = self.new_name("w")
            self.change(slot, [f"CREATE VIEW {name} AS SELECT id, v FROM {slot.name}"], slot.shape.but(view=name))

    def several(self, slot):
        """Some changes and rows in one transaction."""
        one, shape = self.added_column(slot.shape)
        two, shape = self.added_column(shape)
        name = self.new_name("i")
        key = self.random.randrange(1 << 40)
        self.change(slot, [f"ALTER TABLE {slot.name} {one}, {two}", f"INSERT INTO {slot.name} (id, owner, v) VALUES ({key}, {key}%9, 1)",
                           f"CREATE INDEX {name} ON {slot.name} (v)"], shape.but(indexes=shape.indexes | {name}))

    def taken_back(self, slot):
        """A transaction that is rolled back leaves all as it was."""
        sql, _ = self.added_column(slot.shape)
        with self.connection.transaction(force_rollback=True):
            self.execute(f"ALTER TABLE {slot.name} {sql}")
            self.execute(f"DROP TABLE {slot.name} CASCADE")
        self.look_at(slot)

    def refused(self, slot):
        """A statement with an error leaves all as it was."""
        for sql, expected in [(self.create_sql(slot.name, slot.shape.kind), "42P07"),
                              (f"ALTER TABLE {slot.name} ADD COLUMN v int", "42701"),
                              (f"ALTER TABLE {slot.name} ADD COLUMN y int, DROP COLUMN nowhere", "42703")]:
            try:
                self.execute(sql)
            except psycopg.Error as error:
                if error.sqlstate != expected:
                    raise
            else:
                raise Wrong(f"{sql} was not refused with {expected}")
        self.look_at(slot)

    def change_type(self):
        """A new enum, or one more label; old ones go when no column uses them."""
        if self.type is None or self.random.random() < 0.3:
            name = self.new_name("e")
            old = [self.type[0]] if self.type else []
            self.type = None  # in doubt it is forgotten; the groups must still agree
            self.execute(f"CREATE TYPE {name} AS ENUM ('a')")
            self.type = (name, ["a"])
            self.old_types += old
        else:
            name, labels = self.type
            self.type = None
            label = self.new_name("label")
            self.execute(f"ALTER TYPE {name} ADD VALUE '{label}'")
            self.type = (name, [*labels, label])
            found = self.execute(f"SELECT max(x)::text FROM unnest(enum_range(NULL::{name})) x").fetchone()
            if found != (label,):
                raise Wrong(f"the last label of {name} is {found}, must be {label}")
        used = {kind for slot in self.slots if slot.shape for _, kind in slot.shape.columns}
        used |= {kind for doubt in self.doubts for shape in [*doubt.before.values(), *doubt.after.values()] if shape
                 for _, kind in shape.columns}
        for old in [old for old in self.old_types if old not in used]:
            self.old_types.remove(old)
            self.execute(f"DROP TYPE {old}")

    def change_shared(self):
        """Tables that everybody changes and whose rows are known: what others have done meanwhile is no error."""
        table, number = self.random.choice(SHARED), self.random.randrange(3)
        key = {"entry": "owner, n"}.get(table, "id")
        sql, allowed = self.random.choice([
            (f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS more_{number} int NOT NULL DEFAULT {number}", ()),
            (f"ALTER TABLE {table} DROP COLUMN IF EXISTS more_{number}", ()),
            (f"ALTER TABLE {table} ADD CONSTRAINT {table}_check_{number} CHECK (1 = 1)", ("42710",)),
            (f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {table}_check_{number}", ()),
            # Two CREATE at once meet in the unique index of pg_class or pg_type, whose error PostgreSQL passes on.
            (f"CREATE INDEX IF NOT EXISTS {table}_index_{number} ON {table} ({key})", ("42P07", "23505")),
            (f"DROP INDEX IF EXISTS {table}_index_{number}", ()),
            (f"CREATE TABLE IF NOT EXISTS common_{number} (id int PRIMARY KEY) SHARD BY (id) WITH (shard_count = 4)",
             ("42P07", "23505")),
            (f"DROP TABLE IF EXISTS common_{number}", ()),
        ])
        try:
            self.execute(sql)
        except psycopg.Error as error:
            if error.sqlstate not in allowed or error.sqlstate == "23505" and "pg_catalog" not in (error.diag.schema_name or ""):
                raise

    # What is there

    def look(self, name):
        self.doing = f"look at {name}"
        row = self.connection.execute(LOOK.format(name=f"'{name}'")).fetchone()
        if row is None:
            return None
        kind, columns, indexes, constraints, view = row
        return Shape(kind, frozenset(map(tuple, columns)), frozenset(indexes), frozenset(constraints), view or "")

    def look_at(self, slot):
        found = self.look(slot.name)
        if not alike(found, slot.shape):
            raise Wrong(f"{slot.name} is {found}, must be {slot.shape}")

    def verify(self):
        """In the end: what each table must be, and either of two for one in doubt."""
        found = []
        self.connect()
        for slot in self.slots:
            if not alike(seen := self.look(slot.name), slot.shape):
                found.append(f"{slot.name} is {seen}, must be {slot.shape}")
        for doubt in self.doubts:
            names = doubt.before.keys() | doubt.after.keys()
            seen = {name: self.look(name) for name in names}
            if not any(all(alike(seen[name], wanted.get(name)) for name in names) for wanted in (doubt.before, doubt.after)):
                found.append(f"half done: {seen}, must be {doubt.before} or {doubt.after}")
        self.drop_connection()
        return found


def keys_of(name, shape):
    """What visitors use of a table, as the ledger names it."""
    return [(name,), *((name, column) for column, _ in shape.columns)] if shape else []


def alike(found, wanted):
    if found is None or wanted is None:
        return found is wanted
    kind = "sharded" if wanted.kind == "other key" else wanted.kind
    return found == wanted.but(kind=kind)


class Visitor(Session):
    """Statements on tables of which any may go at any moment."""

    # Of a value that does not fit a constraint, an index or a type that has just come; two visitors that wait for each other, on one
    # group (40P01) or over two (55P03, after the lock_timeout of these sessions).
    ALLOWED = {"23505", "23514", "22P02", "40P01", "55P03"}

    def connect(self):
        self.connection = self.endpoint.connect(options=f"-c lock_timeout={3 * PATIENCE}s", prepare_threshold=self.random.choice([None, 2]))

    def step(self):
        tables = self.execute("SELECT c.oid, relname FROM pg_class c WHERE relkind IN ('r', 'p') AND relname ~ '^t[0-9]' "
                              "ORDER BY random() LIMIT 1").fetchall()
        for _, name in tables:
            columns = [row[0] for row in self.execute("SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 "
                                                      "AND NOT attisdropped", (name,))]
            for _ in range(3):
                self.visit(name, self.random.choice([*columns, "v"]))
        views = self.execute("SELECT relname FROM pg_class WHERE relkind = 'v' AND relname ~ '^w[0-9]' ORDER BY random() LIMIT 1")
        for name, in views.fetchall():
            self.visit_view(name)

    def visit_view(self, name):
        """Its table goes with CASCADE, the view alone with DROP: either is no error."""
        key = self.random.randrange(200)
        action = self.random.choice([
            lambda: self.execute(f"SELECT id, v FROM {name} WHERE id = %s", (key,)).fetchall(),
            lambda: self.execute(f"SELECT count(*), sum(v) FROM {name}").fetchall(),
            lambda: self.execute(f"UPDATE {name} SET v = v + 1 WHERE id = %s", (key,)),
            lambda: self.execute(f"DELETE FROM {name} WHERE id = %s", (key,)),
        ])
        try:
            action()
        except psycopg.Error as error:
            if error.sqlstate not in self.ALLOWED and not (error.sqlstate == "42P01" and f'"{name}"' in str(error)):
                raise

    def visit(self, name, column):
        key, owner = self.random.randrange(200), self.random.randrange(9)
        action = self.random.choice([
            lambda: self.execute(f"SELECT id, {column} FROM {name} WHERE id = %s", (key,)).fetchall(),
            lambda: self.execute(f"SELECT count(*), count({column}) FROM {name}").fetchall(),
            lambda: self.execute(f"SELECT k.name, t.{column} FROM {name} t JOIN kind k ON k.id = t.owner WHERE t.id = 7").fetchall(),
            lambda: self.execute(f"INSERT INTO {name} (id, owner, v) VALUES (%s, %s, 3)", (key, owner)),
            lambda: self.execute(f"INSERT INTO {name} (id, owner, v) VALUES " + ", ".join(
                f"({key + more}, {owner}, {more})" for more in range(300, 305)) + " ON CONFLICT DO NOTHING"),
            lambda: self.execute(f"UPDATE {name} SET v = v + 1 WHERE id = %s", (key,)),
            lambda: self.execute(f"UPDATE {name} SET v = 2, {column} = {column} WHERE owner = 3" if column.startswith("x") else
                                 f"UPDATE {name} SET v = 2 WHERE owner = 3"),
            lambda: self.execute(f"DELETE FROM {name} WHERE id = %s", (key,)),
            lambda: self.copy(name, key),
            lambda: self.transaction(name, key),
        ])
        begun = time.monotonic()
        try:
            action()
        except psycopg.Error as error:
            self.judge(error, name, column, begun)

    def copy(self, name, key):
        self.doing = f"COPY {name}"
        with self.connection.cursor().copy(f"COPY {name} (id, owner, v) FROM STDIN") as stream:
            for more in range(1000, 1020):
                stream.write_row((key * 1000 + more, self.random.randrange(9), more))

    def transaction(self, name, key):
        with self.connection.transaction():
            self.execute(f"INSERT INTO {name} (id, owner, v) VALUES (%s, 1, 1) ON CONFLICT DO NOTHING", (key,))
            self.execute(f"UPDATE {name} SET v = 5 WHERE id = %s", (key + 1,))
            self.execute(f"SELECT sum(v) FROM {name}")

    def judge(self, error, name, column, begun):
        """Raises what one PostgreSQL could not have said."""
        text = str(error)
        if error.sqlstate == "42P01" and "pgmosaic_shards" not in text and not self.ledger.was_there((name,), begun):
            return
        if error.sqlstate == "42703" and not self.ledger.was_there((name, column), begun):
            return
        if error.sqlstate == "0A000" and "cached plan must not change result type" in text:
            return
        if error.sqlstate not in self.ALLOWED:
            raise error
