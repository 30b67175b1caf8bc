"""Two sessions, one on the router and one on the oracle, that are told the same and must answer the same."""
import contextlib
import itertools

import psycopg

from harness import fsck
from harness.dialect import strip_dialect
from harness.fixtures import SELF_CHECK
from harness.wire import TEXT, Session, Strictness, all_differences


_numbers = itertools.count(1)


@contextlib.contextmanager
def databases(name, *sides):
    """The endpoints with a new database, dropped in the end if that can be done (test_databases.py insists on it)."""
    name = f"{name}_{next(_numbers)}"
    for side in sides:
        side.run(f"CREATE DATABASE {name}")
    try:
        yield [side.change(database=name) for side in sides]
    finally:
        for side in sides:
            with contextlib.suppress(TimeoutError, psycopg.Error):
                side.drop_database(name, timeout_s=1)


@contextlib.contextmanager
def filled_databases(name, router, oracle, statements):
    """The same with the statements run on both; PostgreSQL gets them without our clauses. In the end all is in order."""
    with databases(name, router, oracle) as made:
        for side, plain in zip(made, (SELF_CHECK, True)):
            side.run(*[strip_dialect(sql) if plain else sql for sql in statements])
        yield made
        assert fsck.differences(made[0]) == []


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
        found = all_differences(ours, theirs, strict)
        if found:
            raise AssertionError("\n  ".join([sql, *found]))
        assert self.router.transaction == self.oracle.transaction, sql
        return ours

    def close(self):
        self.router.close()
        self.oracle.close()
