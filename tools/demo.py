#!/usr/bin/env python3
"""`./x demo`: a four-group cluster with Debian's own package index in it, and ten queries that show where they go."""
import argparse
import pathlib
import re
import signal
import subprocess
import sys
import time

import psycopg

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "test"))
from harness.cluster import DevCluster  # noqa: E402

TABLES = """
CREATE TABLE packages (
  name text PRIMARY KEY, version text, architecture text, section text, priority text, maintainer text,
  installed_kb bigint, description text) SHARD BY HASH (name);
CREATE TABLE dependencies (
  package text, position int, kind text, target text, PRIMARY KEY (package, position)) SHARD BY HASH (package);
CREATE TABLE sections (section text PRIMARY KEY, title text) WITH (table_type = 'reference');
"""

TITLES = {
    "admin": "Administration", "database": "Databases", "devel": "Development", "doc": "Documentation",
    "editors": "Editors", "games": "Games", "graphics": "Graphics", "java": "Java", "libs": "Libraries",
    "libdevel": "Library headers", "mail": "Mail", "math": "Mathematics", "net": "Network", "perl": "Perl",
    "python": "Python", "science": "Science", "sound": "Sound", "text": "Text", "utils": "Utilities", "web": "Web",
}

QUERIES = [
    ("one package: one shard", "SELECT name, version, installed_kb FROM packages WHERE name = 'postgresql-15'"),
    ("three packages: their shards only",
     "SELECT name, version FROM packages WHERE name IN ('bash', 'coreutils', 'git') ORDER BY name"),
    ("a join of co-located tables by key: one shard",
     "SELECT p.version, d.kind, d.target FROM packages p JOIN dependencies d ON d.package = p.name "
     "WHERE p.name = 'psmisc' ORDER BY d.position"),
    ("totals of all: partial sums of each group, added up",
     "SELECT count(*), sum(installed_kb) / 1048576 AS gib, avg(installed_kb)::int AS average_kb FROM packages"),
    ("groups: combined over the cluster",
     "SELECT architecture, count(*), max(installed_kb) FROM packages GROUP BY architecture ORDER BY count(*) DESC"),
    ("a join with a reference table, grouped",
     "SELECT s.title, count(*), sum(p.installed_kb) AS kb FROM packages p JOIN sections s USING (section) "
     "GROUP BY s.title ORDER BY kb DESC LIMIT 5"),
    ("the most wanted dependencies: another key than the shards'",
     "SELECT target, count(*) AS wanted_by FROM dependencies WHERE kind = 'Depends' GROUP BY target "
     "ORDER BY wanted_by DESC, target LIMIT 5"),
    ("a co-located join of everything with everything",
     "SELECT p.name, count(*) AS needs FROM packages p JOIN dependencies d ON d.package = p.name "
     "WHERE p.section = 'database' GROUP BY p.name ORDER BY needs DESC, p.name LIMIT 5"),
    ("who needs SQLite? sorted streams, merged",
     "SELECT package FROM dependencies WHERE target = 'libsqlite3-0' ORDER BY package LIMIT 5"),
    ("distinct values of all groups", "SELECT DISTINCT priority FROM packages ORDER BY priority"),
]


def say(text=""):
    print(text, flush=True)


def stanzas():
    """The package index as dictionaries; each package once."""
    text = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout
    if text.count("\nPackage: ") < 100:  # no index was ever fetched: what is installed must do
        text = pathlib.Path("/var/lib/dpkg/status").read_text(encoding="utf-8")
    seen = set()
    for block in text.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", block, re.MULTILINE))
        if "Package" in fields and fields["Package"] not in seen:
            seen.add(fields["Package"])
            yield fields


def copy_text(values):
    """One row in COPY's text format."""
    def one(value):
        if value is None:
            return "\\N"
        return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    return "\t".join(map(one, values)) + "\n"


def rows_of(index):
    """(rows of packages, rows of dependencies) in COPY's text format."""
    packages, dependencies = [], []
    for fields in index:
        name = fields["Package"]
        packages.append(copy_text([
            name, fields.get("Version"), fields.get("Architecture"), fields.get("Section", "").split("/")[-1],
            fields.get("Priority"), fields.get("Maintainer"), fields.get("Installed-Size"), fields.get("Description")]))
        position = 0
        for kind in ("Pre-Depends", "Depends", "Recommends", "Suggests"):
            for target in re.split(r"[,|]", fields.get(kind, "")):
                if target.strip():
                    position += 1
                    dependencies.append(copy_text([name, position, kind, re.split(r"[ (:]", target.strip())[0]]))
    return packages, dependencies


def load(connection, table, rows):
    started = time.monotonic()
    with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
        for start in range(0, len(rows), 1000):
            copy.write("".join(rows[start:start + 1000]))
    seconds = time.monotonic() - started
    say(f"  COPY {table:<13} {len(rows):>8,} rows in {seconds:.2f} s ({len(rows) / seconds:,.0f} rows/s)")


def where_it_goes(connection, sql):
    """The first line of EXPLAIN: the router's own."""
    return connection.execute(f"EXPLAIN {sql}").fetchone()[0]


def show_query(connection, number, title, sql):
    say(f"\n{number}. {title}")
    say(f"   {sql}")
    started = time.monotonic()
    cursor = connection.execute(sql)
    rows = cursor.fetchall()
    milliseconds = (time.monotonic() - started) * 1000
    say(f"   {where_it_goes(connection, sql)}   [{milliseconds:.1f} ms]")
    for row in rows[:5]:
        say("     " + " | ".join("" if value is None else str(value) for value in row))
    if not rows:
        raise SystemExit("demo: this query found nothing; it should have")


def transaction(connection):
    """Two packages that live in different shards, in one transaction."""
    say("\nand a transaction over several groups: all of it, or nothing")
    with connection.transaction():
        for name in ("bash", "git", "coreutils"):
            connection.execute("UPDATE packages SET installed_kb = installed_kb + 1 WHERE name = %s", (name,))
    say("   COMMIT")


def run(cluster):
    with psycopg.connect(cluster.endpoint.conninfo(), autocommit=True) as connection:
        for statement in TABLES.strip().split(";\n"):
            connection.execute(statement.strip().rstrip(";"))
        say("\nloading Debian's package index:")
        packages, dependencies = rows_of(stanzas())
        load(connection, "packages", packages)
        load(connection, "dependencies", dependencies)
        used = connection.execute("SELECT DISTINCT section FROM packages").fetchall()
        load(connection, "sections", [copy_text([name, TITLES.get(name, (name or "none").capitalize())])
                                      for [name] in used if name is not None])
        for number, (title, sql) in enumerate(QUERIES, 1):
            show_query(connection, number, title, sql)
        transaction(connection)
    say("\nconnect with any PostgreSQL client:")
    say(f"  psql '{cluster.endpoint.url()}'")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--stop-at-end", action="store_true", help="do not wait for Ctrl-C (so too without a terminal)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    cluster = DevCluster(groups=arguments.groups, name="demo")
    try:
        cluster.start()
        say(f"{arguments.groups} PostgreSQL servers and a router are up after {time.monotonic() - started:.1f} s")
        run(cluster)
        if not arguments.stop_at_end and sys.stdin.isatty():
            say("\nCtrl-C stops it all.")
            while cluster.running():
                time.sleep(0.2)
    except KeyboardInterrupt:
        say()
    finally:
        cluster.stop()
    say("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
