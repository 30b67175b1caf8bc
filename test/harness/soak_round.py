"""One round of the soak of schema changes: sessions at work, strikes, peace, and what must be true in the end."""
import random
import threading
import time

import psycopg

from harness.processes import PATIENCE, wait_until
from harness import fsck
from harness.schemas import group_endpoints, misplaced_rows
from harness.soak_chaos import SchemaChaos
from harness.soak_ends import OLD, TABLES, leftovers, settle
from harness.soak_schema import Changer, Ledger, Steady, Visitor


class Round:
    """`clients` sessions on the database of `endpoint`: half of them steady, the others change the schema or visit."""

    def __init__(self, router, servers, endpoint, clients, seed, plant=""):
        self.plant = plant  # SQL for one group behind the router's back: a soak that does not see it is worth nothing
        self.router, self.servers, self.endpoint = router, servers, endpoint
        self.chaos = SchemaChaos(router, servers, random.Random(seed), endpoint)
        self.peace, self.over = threading.Event(), threading.Event()
        ledger = Ledger()
        self.sessions = []
        for number in range(1, clients + 1):
            rng = random.Random(f"{seed}/{number}")
            if number % 2:
                self.sessions.append(Steady(endpoint, number, rng))
            else:
                self.sessions.append((Changer if number % 4 else Visitor)(endpoint, number, rng, ledger))
        self.threads = []

    def run(self, fire_s, peace_s, pause_s=1.0):
        """Problems, of which there should be none."""
        self.endpoint.run(*TABLES)
        self.threads = [threading.Thread(target=session.run, args=(self.peace, self.over), daemon=True) for session in self.sessions]
        for thread in self.threads:
            thread.start()
        found = []
        try:
            self.strike(fire_s, pause_s)
            found += self.make_peace(peace_s)
        finally:
            self.over.set()
            found += self.join()
        return found or self.judge()

    def strike(self, seconds, pause_s):
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self.router.running():
            self.over.wait(min(left, pause_s * (0.5 + self.chaos.random.random())))
            self.chaos.strike()

    def make_peace(self, seconds):
        """The last strikes are noticed when everybody has got through something since; then nothing may fail any more."""
        self.chaos.stop()
        if not self.router.running():
            yield f"the router ended with status {self.router.process.poll()}: {self.router.tail(5)}"
            return
        for server in self.servers:
            wait_until(server.endpoint.accepts, f"{server.name} to accept connections")
        yield from settle(self.servers, OLD)
        before = [session.done for session in self.sessions]
        try:
            wait_until(lambda: all(session.done > done + 1 or session.problems for session, done in zip(self.sessions, before)),
                       "all sessions to go on", timeout_s=60)
        except TimeoutError:
            stuck = [session for session, done in zip(self.sessions, before) if session.done <= done + 1]
            yield from (f"session {session.number} does not go on: {session.doing}" for session in stuck)
        self.peace.set()
        self.over.wait(seconds)

    def join(self):
        deadline = time.monotonic() + 60 * PATIENCE
        for session, thread in zip(self.sessions, self.threads):
            thread.join(timeout=max(0, deadline - time.monotonic()))
            if thread.is_alive():
                yield f"session {session.number} hangs in: {session.doing}"
        for session in self.sessions:
            for problem in session.problems:
                yield f"{type(session).__name__} {session.number}: {problem}"

    def mend_indexes(self):
        """Those whose building was interrupted, as an administrator does it."""
        with self.endpoint.connect() as connection:
            for name, in connection.execute("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid AND indexrelid >= 16384"):
                connection.execute(f"DROP INDEX {name}" if "_ccnew" in name or "_ccold" in name else f"REINDEX INDEX CONCURRENTLY {name}")
        for _, index, difference in fsck.differences(self.endpoint):
            if index.startswith("index public.") and difference == "is missing":
                self.endpoint.run(f"REINDEX INDEX CONCURRENTLY {index.split()[1]}")

    def judge(self):
        found = list(settle(self.servers))
        try:
            if self.plant:
                group_endpoints(self.endpoint)["g2"].run(self.plant)
            for session in self.sessions:
                if not isinstance(session, Visitor):
                    found += [f"{type(session).__name__} {session.number}: {problem}" for problem in session.verify()]
            self.mend_indexes()
            found += fsck.differences(self.endpoint)
            found += misplaced_rows(self.endpoint)
            found += [f"half of a schema change: only one of {pair}" for pair in self.chaos.half_cut()]
        except psycopg.Error as error:
            found.append(f"what is there could not be looked at: {error!r}")
        return found + list(leftovers(self.router, self.servers, self.endpoint))

    def summary(self):
        done = {}
        for session in self.sessions:
            entry = done.setdefault(type(session).__name__, [0, 0])
            entry[0] += session.done
            entry[1] += session.failed
        doubts = sum(len(session.doubts) for session in self.sessions if not isinstance(session, Visitor))
        return f"{done} (done, failed), {doubts} in doubt; {self.chaos.counts}"
