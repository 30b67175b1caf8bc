"""refusals.txt: what PostgreSQL takes and the router refuses, word for word. PGMOSAIC_REWRITE=1 writes the answers."""
import os
import pathlib

import pytest

from harness import fsck, refusals
from harness.dialect import strip_dialect
from harness.fixtures import SELF_CHECK
from harness.pair import databases
from harness.wire import Session

FILE = pathlib.Path(__file__).parent / "refusals.txt"
SECTIONS = [section.name for section in refusals.parse(FILE.read_text())[1]]
ENDS_TRANSACTION = ("COMMIT", "PREPARE TRANSACTION")
NOT_IN_A_TRANSACTION = ("25001", "2D000")


class Runner:
    """One section, in one session on each side."""

    def __init__(self, router, oracle):
        self.router = Session(router)
        self.oracle = Session(oracle)
        self.problems = []

    def close(self):
        self.router.close()
        self.oracle.close()

    def problem(self, block, text):
        self.problems.append(f"line {block.line}: {block.statements[0][:200]}\n    {text}")

    def prepare(self, block):
        for side, session, statements in (("router", self.router, block.for_router()),
                                          ("oracle", self.oracle, block.plain(strip_dialect))):
            for sql in statements:
                failed = next((answer for answer in session.simple(sql) if answer.sqlstate), None)
                if failed:
                    self.problem(block, f"{side}: {sql[:100]}: {failed.brief()}")

    def refuse(self, block):
        """Runs the statement; returns the answer as text."""
        sql, before = block.statements[0], self.router.transaction
        answers = block.run(self.router, sql)
        answer = next((one for one in answers if one.sqlstate), answers[-1])
        if answer.sqlstate != block.state:
            self.problem(block, f"router: {answer.brief()}, must be {block.state}")
        elif not answer.hint:
            self.problem(block, f"router: no hint beside '{answer.message}'")
        after = self.router.transaction
        if after != ("IDLE" if before == "IDLE" or sql.upper().startswith(ENDS_TRANSACTION) else "INERROR"):
            self.problem(block, f"router: transaction state {after} after the refusal, {before} before")
        self.accept(block)
        for session in (self.router, self.oracle):
            if session.transaction != "IDLE":
                session.simple("ROLLBACK")
        alive = self.router.simple("SELECT 1")[0]
        if alive.rows != [(b"1",)]:
            self.problem(block, f"router: the session does not live on: {alive.brief()}")
        return refusals.show(answer)

    def accept(self, block):
        """PostgreSQL takes the statement. It is rolled back where that can be done."""
        for sql in block.plain(strip_dialect):
            alone = self.oracle.transaction == "IDLE"
            if alone:
                self.oracle.simple("BEGIN")
            answers = block.run(self.oracle, sql)
            if alone:
                self.oracle.simple("ROLLBACK")
                if any(answer.sqlstate in NOT_IN_A_TRANSACTION for answer in answers):
                    answers = block.run(self.oracle, sql)
            failed = next((answer for answer in answers if answer.sqlstate), None)
            if failed:
                self.problem(block, f"oracle: {failed.brief()}")

    def run(self, section):
        for block in section.blocks():
            if block.answer is None:
                self.prepare(block)
                continue
            answer = self.refuse(block)
            if os.environ.get("PGMOSAIC_REWRITE"):
                block.answer = answer
            elif answer != block.answer:
                self.problem(block, f"the file says\n{block.answer}\n    and the router\n{answer}")


def emptied(side):
    """The database as it was, for the next section."""
    side.run("DROP SCHEMA public CASCADE", "CREATE SCHEMA public", "GRANT USAGE ON SCHEMA public TO PUBLIC")


@pytest.fixture(scope="module")
def sides(router, oracle):
    with databases("refusals", router, oracle) as made:
        yield made


@pytest.mark.skipif(SELF_CHECK, reason="PostgreSQL refuses nothing of this")
@pytest.mark.parametrize("name", SECTIONS)
def test_refusals(name, sides):
    head, sections = refusals.parse(FILE.read_text())
    section = next(one for one in sections if one.name == name)
    runner = Runner(*sides)
    try:
        runner.run(section)
    finally:
        runner.close()
    problems = runner.problems + [f"fsck: {' '.join(found)}" for found in fsck.differences(sides[0])]
    for side in sides:
        emptied(side)
    if os.environ.get("PGMOSAIC_REWRITE"):
        FILE.write_text(refusals.write(head, sections))
    if problems:
        pytest.fail("\n".join([f"{FILE.name}, {section.title}:", *problems]), pytrace=False)
