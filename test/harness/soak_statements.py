"""What a client of the soak does: statements of all kinds, with the answers that it must get."""
import contextlib
import threading

import psycopg

from harness import raw

NO_ROWS = (0, None, None)


class Aborted(Exception):
    """The client ends its own transaction."""


class Statements:
    def step(self):
        if self.keeps_state and self.random.random() < 0.5:
            self.doing = "check_state"
            return self.check_state()
        actions = [(self.add_accounts, 8), (self.transfer, 12), (self.update_many, 4), (self.remove_accounts, 3),
                   (self.upsert, 3), (self.savepoint, 3), (self.failed_transaction, 2), (self.read_account, 24),
                   (self.read_accounts, 8), (self.add_entries, 6), (self.copy_in, 4), (self.copy_out, 2),
                   (self.abandoned_copy, 1), (self.change_entry, 8), (self.remove_entry, 4), (self.aggregate, 6),
                   (self.join, 6), (self.cursor, 3), (self.portal, 1), (self.pipeline, 4), (self.rate, 2), (self.note, 3),
                   (self.catalog, 2), (self.schema, 0.3), (self.big_answer, 1), (self.cancel, 1), (self.passing_state, 5),
                   (self.reconnect, 1)]
        [action] = self.random.choices([action for action, _ in actions], [weight for _, weight in actions])
        self.doing = action.__name__
        return action()

    def execute(self, sql, values=None, **more):
        return self.connection.execute(sql, values, **more)

    # Writes

    def add_accounts(self):
        ids = self.new_ids(self.random.randint(1, 6))
        values = ", ".join(f"({key}, {self.number}, 1000)" for key in ids)
        self.write("account", dict.fromkeys(ids, 1000), lambda: self.execute(f"INSERT INTO account VALUES {values}"))

    def transfer(self):
        """Money moves between two accounts in one transaction: both rows change, or none."""
        pair = self.known("account", 2)
        if len(pair) < 2:
            return
        one, other = pair
        amount = self.random.randint(1, 50)
        old = self.rows["account"]
        roll_back = self.random.random() < 0.15
        after = {one: old[one] - amount, other: old[other] + amount}
        wanted = {one: old[one], other: old[other]} if roll_back else after

        def move():
            with self.connection.transaction(force_rollback=roll_back):
                self.execute("UPDATE account SET balance = balance - %s WHERE id = %s", (amount, one))
                self.execute("UPDATE account SET balance = balance + %s WHERE id = %s", (amount, other))
                seen = self.execute("SELECT balance FROM account WHERE id = %s", (one,)).fetchone()
                self.expect("own write", (after[one],), seen)

        self.write("account", wanted, move)

    def update_many(self):
        """One statement that writes to several groups."""
        keys = self.known("account", 6)
        wanted = {key: self.rows["account"][key] + 7 for key in keys}

        def update():
            done = self.execute("UPDATE account SET balance = balance + 7 WHERE owner = %s AND id = ANY(%s)",
                                (self.number, keys))
            self.expect("rows updated", len(keys), done.rowcount)

        self.write("account", wanted, update)

    def remove_accounts(self):
        if len(self.rows["account"]) < 20:
            return
        keys = self.known("account", 3)
        old = sorted((key, self.rows["account"][key]) for key in keys)

        def remove():
            one, two, three = keys
            gone = self.execute(f"DELETE FROM account WHERE id IN ({one}, {two}, {three}) RETURNING id, balance").fetchall()
            self.expect("rows removed", old, sorted(gone))

        self.write("account", dict.fromkeys(keys), remove)

    def upsert(self):
        keys = self.known("account", 1) + self.new_ids(1)
        values = ", ".join(f"({key}, {self.number}, 555)" for key in keys)
        self.write("account", dict.fromkeys(keys, 555), lambda: self.execute(
            f"INSERT INTO account VALUES {values} ON CONFLICT (id) DO UPDATE SET balance = EXCLUDED.balance"))

    def savepoint(self):
        """What came after the savepoint is undone, on a group that joined later too."""
        keys = self.known("account", 2)
        if len(keys) < 2:
            return
        one, other = keys
        wanted = {one: self.rows["account"][one] + 1, other: self.rows["account"][other]}

        def work():
            with self.connection.transaction():
                self.execute("UPDATE account SET balance = balance + 1 WHERE id = %s", (one,))
                with self.connection.transaction(force_rollback=True):
                    self.execute("UPDATE account SET balance = 0 WHERE id = %s", (other,))
                seen = dict(self.execute("SELECT id, balance FROM account WHERE id = ANY(%s)", (keys,)).fetchall())
                self.expect("after the savepoint", wanted, seen)

        self.write("account", wanted, work)

    def failed_transaction(self):
        """An error undoes the transaction; until its end nothing else is done. Nothing here can be in doubt."""
        keys = self.known("account", 2)
        with self.connection.cursor() as cursor:
            cursor.execute("BEGIN")
            for key in keys:
                cursor.execute("UPDATE account SET balance = -1 WHERE id = %s", (key,))
            try:
                cursor.execute("SELECT 1 / (n - n) FROM rate WHERE id = %s", (0,))
                self.expect("division by zero", "an error", "none")
            except psycopg.errors.DivisionByZero:
                pass
            try:
                cursor.execute("SELECT balance FROM account WHERE id = %s", (self.number,))
                self.expect("statement of a failed transaction", "an error", "none")
            except psycopg.errors.InFailedSqlTransaction:
                pass
            cursor.execute("COMMIT")
            self.expect("COMMIT of a failed transaction", "ROLLBACK", cursor.statusmessage)

    def add_entries(self):
        numbers = self.new_ids(self.random.randint(1, 5))
        text = f"text of {self.number}"
        places = ", ".join("(%s, %s, %s)" for _ in numbers)
        values = [item for number in numbers for item in (self.number, number, text)]
        self.write("entry", dict.fromkeys(numbers, text), lambda: self.execute(f"INSERT INTO entry VALUES {places}", values))

    def copy_in(self):
        """COPY into one group, or split over all, in one of three formats."""
        ids = self.new_ids(self.random.randint(50, 300))
        form = self.random.choice(["text", "csv", "binary"])
        if self.random.random() < 0.5:
            self.write("entry", dict.fromkeys(ids, "copied"), lambda: self.copy(
                "entry (owner, n, text)", form, ["int4", "int8", "text"], [(self.number, key, "copied") for key in ids]))
        else:
            self.write("account", dict.fromkeys(ids, 77), lambda: self.copy(
                "account (id, owner, balance)", form, ["int8", "int4", "int8"], [(key, self.number, 77) for key in ids]))

    def copy(self, table, form, types, rows):
        with self.connection.cursor() as cursor:
            with cursor.copy(f"COPY {table} FROM STDIN (FORMAT {form})") as stream:
                if form == "csv":
                    stream.write("".join(",".join(map(str, row)) + "\n" for row in rows))
                else:
                    stream.set_types(types)
                    for row in rows:
                        stream.write_row(row)
            self.expect("rows copied", len(rows), cursor.rowcount)

    def abandoned_copy(self):
        """CopyFail: no row of it stays."""
        ids = self.new_ids(100)

        def copy():
            try:
                with self.connection.cursor().copy("COPY account (id, owner, balance) FROM STDIN") as stream:
                    for key in ids:
                        stream.write_row((key, self.number, 1))
                    raise Aborted
            except (Aborted, psycopg.errors.QueryCanceled) as error:
                if isinstance(error, psycopg.Error) and "COPY from stdin failed" not in str(error):
                    raise

        self.write("account", dict.fromkeys(ids), copy)

    def change_entry(self):
        for key in self.known("entry", 1):
            text = f"changed {self.random.randrange(1000)}"
            self.write("entry", {key: text}, lambda: self.execute(
                "UPDATE entry SET text = %s WHERE owner = %s AND n = %s", (text, self.number, key)))

    def remove_entry(self):
        if len(self.rows["entry"]) > 20:
            for key in self.known("entry", 1):
                self.write("entry", {key: None}, lambda: self.execute(
                    "DELETE FROM entry WHERE owner = %s AND n = %s", (self.number, key)))

    def rate(self):
        """A row of a reference table: written on all groups, read on one."""
        value = self.random.randrange(1_000_000)
        key, = self.known("rate", 1) or [self.number + 1000 * self.random.randrange(1_000_000)]
        sql = (f"UPDATE rate SET n = {value} WHERE id = {key}" if key in self.rows["rate"] else
               f"INSERT INTO rate VALUES ({key}, {value}) ON CONFLICT (id) DO NOTHING")
        self.write("rate", {key: value}, lambda: self.execute(sql))
        for _ in range(3):
            self.expect("rate", (value,), self.execute("SELECT n FROM rate WHERE id = %s", (key,)).fetchone())

    def note(self):
        """A local table: it lives in one group."""
        [key] = self.new_ids(1)
        self.write("note", {key: "noted"}, lambda: self.execute("INSERT INTO note VALUES (%s, %s, %s)",
                                                                (key, self.number, "noted")))
        keys = self.known("note", 5)
        found = self.execute("SELECT count(*) FROM note WHERE id = ANY(%s)", (keys,)).fetchone()
        self.expect("notes", (len(keys),), found)

    # Reads

    def read_account(self):
        for key in self.known("account", 1):
            sql = "SELECT balance, owner FROM account WHERE id = %s"
            found = self.execute(sql, (key,), binary=self.random.random() < 0.3).fetchall()
            self.expect(f"account {key}", [(self.rows["account"][key], self.number)], found)

    def read_accounts(self):
        keys = sorted(self.known("account", 8), reverse=True)
        wanted = [(key, self.rows["account"][key]) for key in keys]
        sql = "SELECT id, balance FROM account WHERE id = ANY(%s) ORDER BY id DESC"
        self.expect(f"accounts {keys}", wanted, self.execute(sql, (keys,)).fetchall())
        sql += " LIMIT 3 OFFSET 1"
        self.expect(f"some of the accounts {keys}", wanted[1:4], self.execute(sql, (keys,)).fetchall())

    def aggregate(self):
        keys = self.known("account", 12)
        values = [self.rows["account"][key] for key in keys]
        sql = "SELECT owner, count(*), sum(balance), min(balance), max(id) FROM account WHERE id = ANY(%s) GROUP BY owner"
        wanted = [(self.number, len(keys), sum(values), min(values), max(keys))] if keys else []
        self.expect("groups of accounts", wanted, self.execute(sql, (keys,)).fetchall())
        keys = self.known("entry", 10)
        sql = "SELECT count(*), min(n), max(n) FROM entry WHERE n = ANY(%s)"
        self.expect("entries", (len(keys), min(keys), max(keys)) if keys else NO_ROWS, self.execute(sql, (keys,)).fetchone())
        sql = "SELECT DISTINCT balance FROM account WHERE id = ANY(%s) ORDER BY 1"
        keys = self.known("account", 6)
        wanted = sorted({(self.rows["account"][key],) for key in keys})
        self.expect("distinct balances", wanted, self.execute(sql, (keys,)).fetchall())

    def join(self):
        for key in self.known("entry", 1):
            sql = "SELECT e.text, k.name FROM entry e JOIN kind k ON k.id = e.n %% 10 WHERE e.owner = %s AND e.n = %s"
            found = self.execute(sql, (self.number, key)).fetchall()
            self.expect("join", [(self.rows["entry"][key], f"kind {key % 10}")], found)

    def cursor(self):
        """A cursor over several groups, read in pieces."""
        keys = sorted(self.known("account", 15))
        wanted = [(key, self.rows["account"][key]) for key in keys]
        listed = ", ".join(map(str, keys)) or "0"
        with self.connection.transaction():
            with self.connection.cursor(name="c") as cursor:
                cursor.execute(f"SELECT id, balance FROM account WHERE id IN ({listed}) ORDER BY id")
                found = cursor.fetchmany(4)
                self.expect("own read beside a cursor", (1,), self.execute("SELECT 1").fetchone())
                found += cursor.fetchmany(4) + cursor.fetchall()
        self.expect("cursor", wanted, found)

    def portal(self):
        """Execute with a limit of rows, on a connection of its own that leaves by closing."""
        keys = sorted(self.known("account", 7))
        sql = "SELECT id FROM account WHERE id = ANY($1) ORDER BY id"
        client = raw.RawClient(self.endpoint)
        try:
            client.login()
            pieces = [raw.execute(rows=3)] * 3
            answer = client.ask(raw.parse(sql), raw.bind(["{" + ",".join(map(str, keys)) + "}"]), *pieces, raw.SYNC)
        except (raw.Closed, PermissionError) as error:
            raise OSError(str(error)) from None
        finally:
            client.close()
        errors = [raw.fields(body) for kind, body in answer if kind == "E"]
        if errors:
            raise OSError(str(errors))
        found = [int(body[6:]) for kind, body in answer if kind == "D"]
        self.expect("portal", keys, found)
        suspended = sum(kind == "s" for kind, _ in answer)
        self.expect("suspensions", len(keys) // 3, suspended)

    def copy_out(self):
        keys = self.known("entry", 10)
        listed = ", ".join(map(str, keys)) or "0"
        with self.connection.cursor().copy(
                f"COPY (SELECT n, text FROM entry WHERE owner = {self.number} AND n IN ({listed})) TO STDOUT") as stream:
            found = sorted(stream.rows())
        self.expect("copied out", sorted((str(key), self.rows["entry"][key]) for key in keys), found)

    def pipeline(self):
        keys = self.random.choices(list(self.rows["account"]), k=10) if self.rows["account"] else []
        with self.connection.pipeline():
            cursors = [self.execute("SELECT balance FROM account WHERE id = %s", (key,)) for key in keys]
        self.expect("pipeline", [(self.rows["account"][key],) for key in keys], [cursor.fetchone() for cursor in cursors])

    def big_answer(self):
        found = self.execute("SELECT repeat('x', 2000), g FROM generate_series(1, 2000) g").fetchall()
        self.expect("big answer", (2000, 2000), (len(found), found[-1][1]))

    def catalog(self):
        found = self.execute("SELECT relkind FROM pg_class WHERE relname = 'note'").fetchone()
        self.expect("catalog", ("r",), found)
        plan = self.execute("EXPLAIN SELECT count(*) FROM account").fetchall()
        self.expect("EXPLAIN", True, len(plan) > 1)

    def cancel(self):
        def cancel():
            with contextlib.suppress(psycopg.Error):  # whom it would tell may be gone
                self.connection.cancel()

        timer = threading.Timer(0.1, cancel)
        timer.start()
        try:
            self.execute("SELECT pg_sleep(5)")
        except psycopg.errors.QueryCanceled:
            pass
        finally:
            timer.join()

    # Schema changes

    def schema(self):
        """A sharded table comes, changes and goes."""
        name = f"own_{self.number}"
        self.execute(f"DROP TABLE IF EXISTS {name}")
        self.execute(f"CREATE TABLE {name} (k int PRIMARY KEY, v text) SHARD BY (k) WITH (shard_count = 4)")
        self.execute(f"INSERT INTO {name} VALUES " + ", ".join(f"({key}, 'v')" for key in range(30)))
        self.execute(f"CREATE INDEX ON {name} (v)")
        self.execute(f"ALTER TABLE {name} ADD COLUMN more int DEFAULT 5")
        found = self.execute(f"SELECT count(*), sum(more) FROM {name} WHERE v = 'v'").fetchone()
        self.expect("new table", (30, 150), found)
        self.execute(f"DROP TABLE {name}")

    # State of the session

    def passing_state(self):
        """Settings, temporary tables, locks, statements: state that no other client may ever see."""
        execute = self.execute
        value = f"{self.random.randint(100, 900)}kB"
        execute(f"SET work_mem = '{value}'")
        name = f"client {self.number}"
        execute(f"SET application_name = '{name}'")
        self.expect("work_mem", (value, name), execute(
            "SELECT current_setting('work_mem'), current_setting('application_name')").fetchone())
        form = self.random.randrange(4)
        if form == 0:
            execute("CREATE TEMP TABLE passing AS SELECT generate_series(1, 5) AS n")
            self.expect("temporary table", (5,), execute("SELECT count(*) FROM passing").fetchone())
            execute("DROP TABLE passing")
        elif form == 1:
            execute("SELECT pg_advisory_lock(%s)", (self.number,))
            self.expect("unlock", (True,), execute("SELECT pg_advisory_unlock(%s)", (self.number,)).fetchone())
        elif form == 2:
            with self.connection.transaction():
                execute("SET LOCAL statement_timeout = '77s'")
                self.expect("local", ("77s",), execute("SHOW statement_timeout").fetchone())
            self.expect("after local", ("0",), execute("SHOW statement_timeout").fetchone())
        else:
            execute("PREPARE passing AS SELECT $1::int + 1")
            self.expect("execute", (6,), execute("EXECUTE passing (5)").fetchone())
            execute("DEALLOCATE passing")
        if not self.keeps_state:
            execute("RESET ALL")
            self.expect("reset", True, execute("SHOW work_mem").fetchone() != (value,))
        else:
            execute(f"SET work_mem = '{self.state['work_mem']}'")

    def make_state(self):
        """What this client's session keeps until it ends."""
        self.doing = "make_state"
        execute = self.execute
        self.state = {"work_mem": f"{self.random.randint(1000, 2000)}kB", "rows": 3, "sent": 0, "fetched": 0}
        told = self.state["told"] = []
        self.connection.add_notify_handler(lambda notify: told.append((notify.channel, notify.payload)))
        execute(f"SET work_mem = '{self.state['work_mem']}'")
        execute("CREATE TEMP TABLE kept AS SELECT generate_series(1, 3) AS n")
        execute(f"LISTEN channel_{self.number}")
        execute("SELECT pg_advisory_lock(%s)", (1000 + self.number,))
        execute("PREPARE kept AS SELECT balance FROM account WHERE id = $1")
        execute("DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 20000)")

    def check_state(self):
        execute, state = self.execute, self.state
        self.expect("kept work_mem", (state["work_mem"],), execute("SHOW work_mem").fetchone())
        execute("INSERT INTO kept VALUES (%s)", (state["rows"],))
        state["rows"] += 1
        self.expect("kept table", (state["rows"],), execute("SELECT count(*) FROM kept").fetchone())
        for key in self.known("account", 1):
            self.expect("kept statement", (self.rows["account"][key],), execute(f"EXECUTE kept ({key})").fetchone())
        state["fetched"] += 1
        self.expect("held cursor", (state["fetched"],), execute("FETCH held").fetchone())
        sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = %s"
        lock = execute(sql, (1000 + self.number,)).fetchone()
        self.expect("kept lock", (1,), lock)
        state["sent"] += 1
        execute(f"NOTIFY channel_{self.number}, '{state['sent']}'")
        self.expect("SELECT after NOTIFY", (1,), execute("SELECT 1").fetchone())
        wanted = [(f"channel_{self.number}", str(number + 1)) for number in range(state["sent"])]
        self.expect("notifications", wanted, state["told"])

    def reconnect(self):
        self.drop_connection()
