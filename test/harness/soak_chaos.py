"""What breaks during a soak: backends, servers and clients, one of them every second."""
import os
import signal
import threading

import psycopg

from harness import raw
from harness.processes import descendants, kill_each, still_alive, wait_until

HALF_OPEN_AT_MOST = 30


def kill_at_once(server):
    """kill -9 of all its processes. The first one is stopped before they are counted: it makes new ones all the time."""
    os.kill(server.pid, signal.SIGSTOP)
    family = descendants(server.pid)
    server.kill()
    kill_each(family, signal.SIGKILL)
    wait_until(lambda: not still_alive(family), "the processes of a killed server to end")


class Chaos:
    """Called by the main thread: a server ends when the thread that started it does."""

    def __init__(self, router, servers, rng, endpoint=None):
        self.router, self.servers, self.random = router, servers, rng
        self.endpoint = endpoint or router.endpoint
        self.half_open = []
        self.counts = {}
        self.next_pair = 0
        self.actions = [(self.terminate_backend, 3), (self.cancel_backend, 3), (self.kill_backend, 1), (self.kill_server, 1),
                        (self.half_open_login, 1), (self.half_open_session, 3), (self.vanish_in_transaction, 2),
                        (self.vanish_in_copy, 2), (self.vanish_before_answer, 2), (self.vanish_with_state, 2),
                        (self.vanish_in_pipeline, 1), (self.vanish_in_commit, 3)]

    def strike(self):
        [action] = self.random.choices([action for action, _ in self.actions], [weight for _, weight in self.actions])
        self.counts[action.__name__] = self.counts.get(action.__name__, 0) + 1
        try:
            action()
        except (psycopg.Error, OSError, AssertionError, PermissionError, raw.Closed):
            pass  # what it aimed at may be down already
        while len(self.half_open) > HALF_OPEN_AT_MOST:
            self.half_open.pop(0).close()

    # Servers and their backends

    def backends(self, function):
        server = self.random.choice(self.servers)
        return server.endpoint.run(f"SELECT {function} FROM pg_stat_activity WHERE backend_type = 'client backend' "
                                   "AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1")

    def terminate_backend(self):
        self.backends("pg_terminate_backend(pid)")

    def cancel_backend(self):
        self.backends("pg_cancel_backend(pid)")

    def kill_backend(self):
        """The server ends all others too, and recovers by itself."""
        for pid, in self.backends("pid"):
            os.kill(pid, signal.SIGKILL)

    def kill_server(self):
        server = self.random.choice(self.servers)
        server.kill(signal.SIGQUIT)
        pid_file = server.data / "postmaster.pid"
        wait_until(lambda: not pid_file.exists(), "a killed server to be gone")
        server.start()

    # Clients

    def session(self, *requests):
        """A client that has asked something and may read the answer."""
        client = raw.RawClient(self.endpoint, timeout_s=5)
        try:
            client.login()
            client.send(*requests)
        except BaseException:
            client.close()
            raise
        return client

    def half_open_login(self):
        client = raw.RawClient(self.endpoint)
        self.half_open.append(client)
        client.send(raw.startup(user="postgres")[:self.random.randint(1, 20)])

    def half_open_session(self):
        """Half a message; the middle of a transaction, of a COPY; an answer that nobody reads."""
        self.half_open.append(self.session(self.random.choice([
            raw.query("SELECT 1")[:-2], raw.query("BEGIN; SELECT count(*) FROM kind"), raw.query("COPY entry FROM STDIN"),
            raw.query("SELECT repeat('x', 10000) FROM generate_series(1, 10000)"), raw.parse("SELECT 1")])))

    def vanish_in_transaction(self):
        key = self.random.randrange(1_000_000, 64_000_000, 1_000_000)
        self.session(raw.query(f"BEGIN; UPDATE account SET balance = -1 WHERE id IN ({key}, {key + 1}, {key + 2}, {key + 3})")
                     ).vanish()

    def vanish_in_copy(self):
        table, row = self.random.choice([("account", b"%d\t-5\t1\n"), ("entry", b"-5\t%d\tlost\n")])
        client = self.session(raw.query(f"COPY {table} FROM STDIN"))
        client.read_until("GE")
        client.send(*(raw.message(b"d", row % number) for number in range(50)))
        client.vanish()

    def vanish_before_answer(self):
        self.session(raw.query(self.random.choice([
            "SELECT * FROM entry", "SELECT count(*) FROM account a, kind", "SELECT pg_sleep(100)",
            "SELECT id FROM account ORDER BY balance"]))).vanish()

    def vanish_with_state(self):
        client = self.session()
        for sql in self.random.sample(["CREATE TEMP TABLE lost (a int)", "LISTEN lost", "SELECT pg_advisory_lock(random())",
                                       "SET statement_timeout = '1ms'", "SET work_mem = '64kB'"], 3):
            client.ask(raw.query(sql.replace("random()", str(self.random.randrange(10**6, 10**7)))))
        client.vanish()

    def vanish_in_pipeline(self):
        one = raw.parse("SELECT balance FROM account WHERE id = $1") + raw.bind(["5"]) + raw.execute()
        self.session(one * 20).vanish()

    def vanish_in_commit(self):
        """Two rows by one transaction; in the end both are there, or none."""
        self.next_pair += 1
        one, other = 2 * self.next_pair, 2 * self.next_pair + 1
        client = self.session(raw.query(f"BEGIN; INSERT INTO pair VALUES ({one}, {self.next_pair})"))
        if client.read_until("Z")[-1] != ("Z", b"T"):  # an error before BEGIN: the next INSERT would be alone
            return client.vanish()
        client.ask(raw.query(f"INSERT INTO pair VALUES ({other}, {self.next_pair})"))
        client.send(raw.query("COMMIT"))
        threading.Event().wait(self.random.random() / 100)
        return client.vanish()

    def stop(self):
        for client in self.half_open:
            client.close()


class SchemaChaos(Chaos):
    """What breaks while the schema changes: the router and the servers by kill -9 as well, and connections in a schema change."""

    def __init__(self, router, servers, rng, endpoint):
        super().__init__(router, servers, rng, endpoint)
        self.actions = [(self.terminate_backend, 3), (self.kill_backend, 1), (self.kill_server, 1), (self.kill_server_at_once, 2),
                        (self.kill_router, 4), (self.cut_schema_change, 6), (self.vanish_in_commit, 2)]
        self.cuts = 0

    def kill_server_at_once(self):
        server = self.random.choice(self.servers)
        kill_at_once(server)
        server.start()

    def kill_router(self):
        self.router.kill()
        for server in self.servers:  # a router starts only over all of them
            wait_until(server.endpoint.accepts, f"{server.name} to accept connections")
        self.router.start()

    def cut_schema_change(self):
        """Both tables of such a pair are there in the end, or none, with a column more or without."""
        self.cuts += 1
        one, other = f"cut_{self.cuts}", f"cut_{self.cuts}_too"
        changes = self.random.choice([
            f"CREATE TABLE {one} (id int PRIMARY KEY) SHARD BY (id) WITH (shard_count = 6); CREATE TABLE {other} (id int)",
            f"CREATE TABLE {one} (id int PRIMARY KEY) WITH (table_type = 'reference'); CREATE TABLE {other} AS SELECT * FROM {one}",
            f"BEGIN; CREATE TABLE {one} (id int); ALTER TABLE {one} ADD v int; CREATE TABLE {other} (id int) SHARD BY (id); COMMIT",
            f"ALTER TABLE pair ADD COLUMN {one} int DEFAULT 3",
        ])
        client = self.session(raw.query(changes))
        threading.Event().wait(self.random.random() / 5)
        client.vanish()

    def half_cut(self):
        """Pairs of which one is there without the other."""
        tables = {name for name, in self.endpoint.run("SELECT relname FROM pg_class WHERE relname LIKE 'cut\\_%' AND relkind = 'r'")}
        pairs = [(f"cut_{number}", f"cut_{number}_too") for number in range(1, self.cuts + 1)]
        return [pair for pair in pairs if (pair[0] in tables) != (pair[1] in tables)]
