"""Every step of a commit over several groups × every fault: all of the transaction or nothing, and soon."""
import contextlib
import itertools
import os
import threading

import psycopg
import pytest

from harness.fault_proxy import Fault, FaultProxy
from harness.fixtures import SELF_CHECK, Router, PostgresServer
from harness.processes import PATIENCE, wait_until
from harness.soak_chaos import kill_at_once

pytestmark = pytest.mark.skipif(SELF_CHECK, reason="about several servers")

# Of the transaction below: what the message to the group says, and which groups get one. The first writer is the anchor.
STEPS = {
    "write": (lambda text: "UPDATE account" in text, (0, 1, 2)),
    "prepare": (lambda text: "PREPARE TRANSACTION" in text, (1, 2)),
    "decide": (lambda text: "pgmosaic_log_commit" in text and "; COMMIT" in text, (0,)),
    "finish": (lambda text: text.startswith("COMMIT PREPARED"), (1, 2)),
    "undo": (lambda text: text.startswith("ROLLBACK PREPARED"), (1,)),
}
FAULTS = ("cut", "cut all", "stall", "kill the server", "kill the router", "kill both")
CASES = [(step, when, group, fault) for step, (_, groups) in STEPS.items()
         for when, group, fault in itertools.product(("before", "after"), groups, FAULTS)]
# All with `./x soak faults`; else such as meet every step, moment and fault.
SHARE = CASES if os.environ.get("PGMOSAIC_ALL_FAULTS") else CASES[::7]
RESOLVED_S = 10  # once all parts can be reached
FOREIGN = "foreign"


class Bench:
    """Three servers behind proxies, and a router over these."""

    def __init__(self):
        self.servers = [PostgresServer(f"g{number}", {"max_connections": 100}).start() for number in (1, 2, 3)]
        self.proxies = [FaultProxy(server).start() for server in self.servers]
        self.router = Router(self.proxies).start()
        self.router.endpoint.run(
            "CREATE TABLE account (id int PRIMARY KEY, balance int CHECK (balance >= 0)) SHARD BY (id)",
            "INSERT INTO account SELECT i, 0 FROM generate_series(0, 63) i",
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN IF NEW.balance % 10 = 7 THEN RAISE 'refused' USING ERRCODE = '23514'; END IF; RETURN NEW; END $$",
            "CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON account DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
            "EXECUTE FUNCTION refuse()")
        self.shards = [server.endpoint.change(database="pgmosaic_shards_postgres") if number == 0 else server.endpoint
                       for number, server in enumerate(self.servers)]
        self.accounts = [shard.run("SELECT min(id) FROM account")[0][0] for shard in self.shards]
        self.shards[1].run("CREATE TABLE theirs (n int)", "BEGIN", "INSERT INTO theirs VALUES (1)", f"PREPARE TRANSACTION '{FOREIGN}'")

    def balances(self):
        return [shard.run(f"SELECT balance FROM account WHERE id = {account}")[0][0]
                for shard, account in zip(self.shards, self.accounts)]

    def prepared(self):
        return [name for server in self.servers for name, in server.endpoint.run("SELECT gid FROM pg_prepared_xacts")
                if name != FOREIGN]

    def transact(self, refused):
        """None, or what went wrong. `refused`: the last group's part fails at its end."""
        amounts = (10, 10, 7 if refused else 10)
        try:
            with self.router.endpoint.connect(cursor_factory=psycopg.ClientCursor) as connection:
                connection.execute("BEGIN")
                for account, amount in zip(self.accounts, amounts):
                    connection.execute("UPDATE account SET balance = balance + %s WHERE id = %s", (amount, account))
                connection.execute("COMMIT")
        except psycopg.Error as error:
            return error
        return None

    def kill_router(self):
        self.router.kill()

    def action(self, fault, group):
        def both():
            self.kill_router()
            kill_at_once(self.servers[group])
        return {"kill the server": lambda: kill_at_once(self.servers[group]), "kill the router": self.kill_router,
                "kill both": both}.get(fault, fault)

    def restore(self):
        for proxy in self.proxies:
            proxy.restore()
        for server in self.servers:
            if not server.running():
                server.start()
        if not self.router.running():
            self.router.start()

    def stop(self):
        with contextlib.ExitStack() as stack:
            for part in (*self.servers, *self.proxies, self.router):
                stack.callback(part.stop)


@pytest.fixture(scope="module")
def bench():
    made = Bench()
    try:
        yield made
        assert made.shards[1].run(f"SELECT 1 FROM pg_prepared_xacts WHERE gid = '{FOREIGN}'") == [(1,)]
    finally:
        made.stop()


@pytest.mark.parametrize("step, when, group, fault", SHARE)
def test_fault(bench, step, when, group, fault):
    fits, _ = STEPS[step]
    before = bench.balances()
    armed = bench.proxies[group].arm(Fault(fits, bench.action(fault, group), when))
    errors = []
    client = threading.Thread(target=lambda: errors.append(bench.transact(refused=step == "undo")), daemon=True)
    client.start()
    assert armed.fired.wait(30 * PATIENCE), "the step was not reached"
    if fault != "stall":
        client.join(1 if fault == "cut all" else 5)  # what waits for the group goes on when it is back
    bench.restore()
    wait_until(lambda: bench.prepared() == [], "the transaction to be settled", RESOLVED_S)
    client.join(60 * PATIENCE)
    assert not client.is_alive()
    error, = errors
    sums = bench.balances()
    changed = [now - then for now, then in zip(sums, before)]
    if error is None:
        assert changed == [10, 10, 10]
    elif error.sqlstate is None or error.sqlstate in ("08007", "57P01"):  # the connection was lost, or the outcome is unknown
        assert changed in ([0, 0, 0], [10, 10, 10])
    else:
        assert changed == [0, 0, 0], error
    if step == "undo":
        assert changed == [0, 0, 0]
    # The others go on.
    assert bench.transact(refused=False) is None
    assert [now - then for now, then in zip(bench.balances(), sums)] == [10, 10, 10]


@pytest.mark.parametrize("group, when", [(1, "before"), (1, "after"), (2, "after")])
def test_an_index_whose_commit_loses_a_group(bench, group, when):
    """What builds it afterwards needs that group, too."""
    armed = bench.proxies[group].arm(Fault(STEPS["finish"][0], "cut", when))
    with bench.router.endpoint.connect() as connection:
        connection.execute("CREATE INDEX CONCURRENTLY balances ON account (balance)")
        assert armed.fired.is_set()
        assert connection.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'balances'::regclass").fetchall() == [(True,)]
        connection.execute("DROP INDEX balances")
