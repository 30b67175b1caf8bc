"""Object-relational mappers with their migration tools, and pg_dump: they print the same against both sides."""
import difflib
import os
import pathlib
import re
import subprocess

import pytest

from harness.dialect import strip_dialect
from harness.fixtures import SELF_CHECK
from harness import fsck
from harness.pair import databases, filled_databases
from harness.processes import PATIENCE, ROOT, postgres_program

HERE = pathlib.Path(__file__).parent


def run(command, endpoint, check=True):
    environment = {**os.environ, **endpoint.environment(), "PYTHONDONTWRITEBYTECODE": "1", "TZ": "UTC", "LC_ALL": "C.UTF-8",
                   "NODE_PATH": str(ROOT / "build/knex/node_modules")}
    done = subprocess.run([str(word) for word in command], env=environment, capture_output=True, text=True,
                          timeout=300 * PATIENCE, check=False)
    if check:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def same(mine, theirs):
    return "\n".join(difflib.unified_diff(theirs.splitlines(), mine.splitlines(), "PostgreSQL", "router", lineterm="", n=1))


@pytest.mark.parametrize("program", ["django", "sqlalchemy"])
def test_mapper(router, oracle, program):
    with databases(f"orm_{program}", router, oracle) as sides:
        mine, theirs = [run(["/usr/bin/python3", HERE / f"program_{program}.py"], side) for side in sides]
        # A relation's OID is its own on each server.
        hide = [re.sub(r"'oid': \d+", "'oid': …", said) for said in (mine, theirs)]
        assert len(theirs) > 1000
        assert same(*hide) == ""
        assert fsck.differences(sides[0]) == []


EVENTS = "CREATE TABLE events (customer int, id bigint, amount numeric, data jsonb, PRIMARY KEY (customer, id)) SHARD BY (customer)"


def test_knex(router, oracle):
    with databases("orm_knex", router, oracle) as sides:
        said = []
        for side, plain in zip(sides, (SELF_CHECK, True)):
            side.run(strip_dialect(EVENTS) if plain else EVENTS)
            said.append(run(["node", "--no-deprecation", HERE / "program_knex.js"], side))
        assert said[1].endswith("\ndone\n")
        assert same(*said) == ""


SCHEMA = [
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    "CREATE TABLE person (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, m mood DEFAULT 'ok') SHARD BY (id)",
    "CREATE TABLE country (code char(2) PRIMARY KEY, name text) WITH (table_type = 'reference')",
    "CREATE TABLE setting (id serial PRIMARY KEY, value jsonb, at timestamptz DEFAULT now())",
    "CREATE TABLE visit (at date, who bigint) PARTITION BY RANGE (at)",
    "CREATE TABLE visit_2026 PARTITION OF visit FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    "CREATE INDEX person_name ON person (lower(name))",
    "CREATE VIEW settings AS SELECT id, value -> 'a' AS a FROM setting",
    "CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n'",
    "COMMENT ON TABLE person IS 'who is who'",
    "INSERT INTO person (name) VALUES " + ", ".join(f"('p{i}')" for i in range(50)),
    "INSERT INTO country VALUES ('de', 'Germany'), ('fr', 'France')",
    "INSERT INTO setting (value) VALUES ('{\"a\": 1}'), ('[]')",
    "INSERT INTO visit VALUES ('2026-05-05', 1), ('2026-06-06', 2)",
]


@pytest.fixture(scope="module")
def filled(router, oracle):
    with filled_databases("dump", router, oracle, SCHEMA) as made:
        yield made


def test_dump_of_the_schema(filled):
    said = [run([postgres_program("pg_dump"), "--schema-only"], side) for side in filled]
    # Newer versions guard a dump with a word of the moment.
    mine, theirs = [re.sub(r"(?m)^\\(un)?restrict .*$", "", text) for text in said]
    assert same(mine, theirs) == ""


@pytest.mark.parametrize("form", ["plain", "custom"])
@pytest.mark.parametrize("target", ["router", "oracle"])
def test_dump_and_restore(filled, router, oracle, form, target, tmp_path):
    dump = tmp_path / "dump"
    run([postgres_program("pg_dump"), f"--format={form}", f"--file={dump}"], filled[0])
    with databases(f"restored_{form}", {"router": router, "oracle": oracle}[target]) as [restored]:
        if form == "plain":
            run([postgres_program("psql"), "-q", "-X", "-v", "ON_ERROR_STOP=1", "-f", dump], restored)
        else:
            run([postgres_program("pg_restore"), "--jobs=2", "--exit-on-error", "-d", restored.database, dump], restored)
        for query in ["SELECT count(*), min(name), max(id) FROM person", "SELECT * FROM country ORDER BY code",
                      "SELECT id, value FROM setting ORDER BY id", "SELECT tableoid::regclass::text, * FROM visit ORDER BY at",
                      "SELECT * FROM settings ORDER BY id", "SELECT twice(21)"]:
            assert restored.run(query) == filled[1].run(query), query
        # Sequences go on where they were.
        restored.run("INSERT INTO person (name) VALUES ('next')", "INSERT INTO setting (value) VALUES ('{}')")
        assert restored.run("SELECT max(id) FROM person")[0][0] == 51
        assert restored.run("SELECT max(id) FROM setting")[0][0] == 3
