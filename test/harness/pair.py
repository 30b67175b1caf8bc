"""Two sessions, one on the router and one on the oracle, that are told the same and must answer the same."""
import contextlib

from harness.dialect import strip_dialect
from harness.fixtures import SELF_CHECK
from harness.wire import TEXT, Session, Strictness, all_differences


@contextlib.contextmanager
def databases(name, *sides):
    """The endpoints with a new database of that name, dropped in the end."""
    made = []
    for side in sides:
        side.drop_database(name)
        side.run(f"CREATE DATABASE {name}")
        made.append(side.change(database=name))
    try:
        yield made
    finally:
        for side in sides:
            side.drop_database(name)


class Pair:
    """run() compares what both sides answer; `router` and `oracle` are the sessions themselves."""

    def __init__(self, router, oracle, **options):
        self.router = Session(router, **options)
        self.oracle = Session(oracle, **options)

    def run(self, sql, data=None, strict=Strictness(ordered=False), oracle_sql=None):
        """One simple Query on both sides; returns the router's answers."""
        plain = strip_dialect(oracle_sql or sql)
        return self._same(sql, strict, lambda session, text: session.simple(text, copy_data=data), plain)

    def ask(self, sql, values=None, types=None, formats=None, result_format=TEXT, strict=Strictness(ordered=False)):
        """One statement by the extended protocol on both sides; returns the router's answers."""
        return self._same(sql, strict, lambda session, text: session.extended(text, values, types, formats,
                                                                              result_format), strip_dialect(sql))

    def _same(self, sql, strict, execute, plain):
        ours = execute(self.router, plain if SELF_CHECK else sql)
        theirs = execute(self.oracle, plain)
        assert all_differences(ours, theirs, strict) == [], sql
        assert self.router.transaction == self.oracle.transaction, sql
        return ours

    def close(self):
        self.router.close()
        self.oracle.close()
