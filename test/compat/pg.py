"""PostgreSQL's own regression files, through psql on the router and on one plain PostgreSQL: `./x compat pg`.

The files are those of Debian's source package of PostgreSQL 15, fetched on the first run. Each is fed to psql on both
sides; the outputs are cut at the lines of the file, and what comes behind a line must be the same. Reports the share of
equal answers per file, and what differs in files under build/compat/pg; causes.txt there counts the differences by what the
router said. Files run in the order of PostgreSQL's own schedule, because they build on each other.

With one group every difference must be in pg_differences.txt, under its reason; others fail the run.
"""
import argparse
import bisect
import collections
import os
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import debian_source, processes  # noqa: E402
from harness.cluster import DevCluster, PostgresServer  # noqa: E402
from harness.processes import PATIENCE, ROOT, postgres_program  # noqa: E402

FOLDER = ROOT / "build" / "compat" / "pg"
KNOWN = pathlib.Path(__file__).with_name("pg_differences.txt")
# As pg_regress sets them for every connection.
ENVIRONMENT = {"PGTZ": "PST8PDT", "PGDATESTYLE": "Postgres, MDY", "PGOPTIONS": "-c intervalstyle=postgres_verbose",
               "LC_MESSAGES": "C", "PGAPPNAME": "regress"}


def fetch():
    """The unpacked regression folder of the source package, with regress.so."""
    regress = debian_source.unpacked("postgresql-15", FOLDER, "*/src/test/regress/*") / "src/test/regress"
    library = regress / "regress.so"
    if not library.exists():
        config = postgres_program("pg_config")
        include = subprocess.run([config, "--includedir-server"], capture_output=True, text=True, check=True).stdout.strip()
        subprocess.run(["gcc", "-O1", "-fPIC", "-shared", "-w", "-I", include, regress / "regress.c", "-o", library],
                       check=True)
    return regress


def schedule(regress):
    names = []
    for line in (regress / "parallel_schedule").read_text().splitlines():
        if line.startswith("test:"):
            names += line.split()[1:]
    return names


def psql(endpoint, regress, file, results):
    environment = {**os.environ, **endpoint.environment(), **ENVIRONMENT, "PGDATABASE": "regression",
                   "PG_ABS_SRCDIR": str(regress), "PG_ABS_BUILDDIR": str(results), "PG_LIBDIR": str(regress),
                   "PG_DLSUFFIX": ".so"}
    command = [postgres_program("psql"), "-X", "-a", "-q", "-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"]
    try:
        done = subprocess.run(command, stdin=open(file, "rb"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=environment, cwd=results, timeout=300 * PATIENCE, check=False)
        said = done.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as late:
        said = (late.stdout or b"").decode(errors="replace") + "\n(no answer in time)\n"
    return said.replace(str(results), "(results)")  # each side writes files to its own


def answers(script, output):
    """What stands behind each line of the script: [(line, answer)]. Lines that psql does not echo have no answer."""
    lines = [line for line in script.splitlines() if line.strip()]
    wanted = output.splitlines()
    places = collections.defaultdict(list)
    for number, line in enumerate(wanted):
        places[line].append(number)

    def place_of(line, at):
        known = places.get(line, ())
        behind = bisect.bisect_left(known, at)
        return known[behind] if behind < len(known) else None

    def comes_later(number, at, place):
        """A line that was not echoed here may be found far behind: then lines that follow it come before that."""
        sooner = 0
        for line in lines[number + 1:number + 100]:
            found = place_of(line, at)
            if found is not None and found < min(place, at + 60):
                sooner, at = sooner + 1, found + 1
        return sooner > 5

    found, at = [], 0
    for number, line in enumerate(lines):
        place = place_of(line, at)
        if place is None or (place > at + 20 and comes_later(number, at, place)):
            continue
        if found:
            found[-1][1].extend(wanted[at:place])
        found.append((line, []))
        at = place + 1
    if found:
        found[-1][1].extend(wanted[at:])
    return found


def cause(expected, got):
    """A difference in a few words: names and numbers are left out, so that differences of one kind can be counted."""
    if got is None:
        return "the session has ended"
    errors = [[line for line in answer if re.match(r"ERROR|FATAL|PANIC", line)] for answer in (expected, got)]
    if errors[0] != errors[1]:
        said = errors[1][0] if errors[1] else f"no error, PostgreSQL says {errors[0][0]}"
    elif any("QUERY PLAN" in line for line in expected):
        said = "another plan"
    elif errors[0]:
        said = "another position, detail or context"
    else:
        notices = [[line for line in answer if re.match(r"NOTICE|WARNING|INFO", line)] for answer in (expected, got)]
        said = "another notice" if notices[0] != notices[1] else "other rows"
    return re.sub(r"\d+", "N", re.sub(r'"[^"]*"|\'[^\']*\'|\S+\([^)]*\)', "…", said))


def known_differences():
    """The answers of each file that may differ, by their numbers. Lines of KNOWN: `# reason`, `file: number …`."""
    known = collections.defaultdict(set)
    for text in KNOWN.read_text().splitlines():
        if text and not text.startswith("#"):
            name, numbers = text.split(":")
            known[name].update(int(number) for number in numbers.split())
    return known


def compare(script, mine, theirs, report, causes):
    """(numbers of the answers that differ, how many there are) of those that are not empty on either side."""
    different, total = [], 0
    ours = answers(script, mine)
    position = 0
    for number, (line, expected) in enumerate(answers(script, theirs), 1):
        got = None
        for ahead in range(position, min(position + 400, len(ours))):
            if ours[ahead][0] == line:
                got, position = ours[ahead][1], ahead + 1
                break
        if not expected and not got:
            continue
        total += 1
        if got != expected:
            different.append(number)
            causes[cause(expected, got)] += 1
            report.append(f"{number}: {line}\n  PostgreSQL:\n    " + "\n    ".join(expected[:12]) + "\n  router:\n    " +
                          ("(nothing: the session has ended)" if got is None else "\n    ".join(got[:12])) + "\n")
    return different, total


def prepare(endpoint):
    endpoint.run("CREATE DATABASE regression TEMPLATE template0",
                 "ALTER DATABASE regression SET lc_messages TO 'C'", "ALTER DATABASE regression SET lc_monetary TO 'C'",
                 "ALTER DATABASE regression SET timezone_abbreviations TO 'Default'")


def main():
    parser = argparse.ArgumentParser(prog="x compat pg", description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="names of regression files; test_setup runs before them; default: all")
    parser.add_argument("--groups", type=int, default=1)
    parser.add_argument("--sharded", action="store_true", help="tables are sharded by default")
    parser.add_argument("--share", type=float, default=0, help="the least share of equal answers, in percent")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    regress = fetch()
    names = schedule(regress)
    if options.files:
        names = [name for name in names if name in options.files or name == "test_setup"]
    kind = "sharded" if options.sharded else "local"
    arguments = ["--sharding.default_table_type", kind, "--sharding.partitioned_table_type", kind, "--sharding.key_notices", "false"]
    cluster, plain = DevCluster(groups=options.groups, arguments=arguments), PostgresServer("plain")
    places = {"router": cluster, "plain": plain}
    equal = total = 0
    causes = collections.Counter()
    known = known_differences() if options.groups == 1 and not options.sharded else None
    unknown = []
    try:
        for name, server in places.items():
            server.start()
            prepare(server.endpoint)
            results = FOLDER / name
            shutil.rmtree(results, ignore_errors=True)
            (results / "results").mkdir(parents=True)
            processes.give_to_account(results)
            processes.give_to_account(results / "results")
        for name in names:
            file = regress / "sql" / f"{name}.sql"
            said = {}
            for side, server in places.items():
                said[side] = psql(server.endpoint, regress, file, FOLDER / side)
                (FOLDER / side / f"{name}.out").write_text(said[side])
            report = []
            different, count = compare(file.read_text(errors="replace"), said["router"], said["plain"], report, causes)
            unknown += [f"{name}: {number}" for number in different if known is not None and number not in known[name]]
            same = count - len(different)
            (FOLDER / f"{name}.diff").write_text("\n".join(report))
            equal, total = equal + same, total + count
            print(f"{name:28} {same:6} of {count:6}  {100 * same / max(count, 1):6.1f} %", flush=True)
    finally:
        for server in places.values():
            server.stop()
    (FOLDER / "causes.txt").write_text("".join(f"{count:6}  {said}\n" for said, count in causes.most_common()))
    share = 100 * equal / max(total, 1)
    print(f"{'all':28} {equal:6} of {total:6}  {share:6.1f} %   {options.groups} group(s); differences in {FOLDER}")
    if unknown:
        print(f"{len(unknown)} differences are not in {KNOWN.name}:", *unknown, sep="\n")
    return 0 if share >= options.share and not unknown else 1


if __name__ == "__main__":
    sys.exit(main())
