"""Random statements over random tables: the router agrees with one PostgreSQL, or says 0A000.

PGMOSAIC_SEED starts at another seed, PGMOSAIC_RANDOM_S runs for another time; a failure names the seed of its tables.
"""
import os
import time

import pytest

from harness.fixtures import SELF_CHECK
from harness.dialect import strip_dialect
from harness.pair import databases
from harness.random_sql import Generator
from harness.wire import BINARY, Session, Strictness, all_differences, is_ordered

FIRST_SEED = int(os.environ.get("PGMOSAIC_SEED", "1"))
SECONDS = float(os.environ.get("PGMOSAIC_RANDOM_S", "45"))
STATEMENTS = 150
MOST_REFUSED = 0.15


class Run:
    """One schema: the same statements on both sides, by one protocol or the other."""

    def __init__(self, sides, seed):
        self.generator = Generator(seed)
        self.seed = seed
        self.router, self.oracle = (Session(side) for side in sides)
        self.asked = self.refused = 0
        self.problems = []

    def close(self):
        self.router.close()
        self.oracle.close()

    def prepare(self):
        for sql in [*self.generator.schema(), *self.generator.rows()]:
            plain = strip_dialect(sql)
            ours = self.router.simple(plain if SELF_CHECK else sql)
            found = all_differences(ours, self.oracle.simple(plain))
            assert not found and not ours[0].sqlstate, f"seed {self.seed}: {sql[:500]}\n{found} {ours[0].brief()}"

    def execute(self, session, sql, way):
        return session.simple(sql) if way == 0 else session.extended(sql, result_format=BINARY if way == 2 else 0)

    def step(self, number):
        sql = self.generator.write() if number % 6 == 5 else self.generator.select()
        way = number % 3
        self.asked += 1
        ours = self.execute(self.router, sql, way)
        if ours[0].sqlstate == "0A000":
            self.refused += 1
            return
        theirs = self.execute(self.oracle, sql, way)
        found = all_differences(ours, theirs, Strictness(ordered=is_ordered(sql), position=False, message=False))
        if found:
            self.problems.append(f"seed {self.seed}, way {way}: {sql}\n    " + "\n    ".join(found))


def test_random_statements(router, oracle, record_property):
    deadline = time.monotonic() + SECONDS
    seed, asked, refused, problems = FIRST_SEED, 0, 0, []
    while time.monotonic() < deadline and len(problems) < 10:
        with databases("random_statements", router, oracle) as sides:
            run = Run(sides, seed)
            try:
                run.prepare()
                for number in range(STATEMENTS):
                    run.step(number)
                    if time.monotonic() > deadline or len(run.problems) >= 5:
                        break
            finally:
                run.close()
        asked, refused, problems = asked + run.asked, refused + run.refused, problems + run.problems
        seed += 1
    record_property("asked", asked)
    record_property("refused", refused)
    print(f"{asked} statements over {seed - FIRST_SEED} schemas, {refused} refused")
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)
    assert asked > 50
    assert refused <= asked * MOST_REFUSED, f"{refused} of {asked} statements refused"
