"""Test suites that drivers bring along, on the router and on one plain PostgreSQL: `./x compat drivers`.

A suite is that of Debian's source package, fetched and built on the first run under build/compat/drivers. Each of its
tests runs by itself against plain PostgreSQL, a cluster of one group, and one of four groups where tables are sharded by
default. What it says and how it ends must be the same; differences are in build/compat/drivers/*.diff.

  libpqxx   the C++ driver: its runners of old tests and of unit tests
"""
import argparse
import dataclasses
import difflib
import os
import pathlib
import re
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import debian_source  # noqa: E402
from harness.cluster import DevCluster, PostgresServer  # noqa: E402
from harness.processes import PATIENCE, ROOT, give_to_account, scratch_directory  # noqa: E402

FOLDER = ROOT / "build" / "compat" / "drivers"
TEST_TIMEOUT_S = 60
# What two runs of the same test need not have in common.
UNSTEADY = [(r"\bpid=\d+", "pid=…"), (r"large object #\d+", "large object #…")]


@dataclasses.dataclass(frozen=True)
class Test:
    name: str
    command: tuple


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a test ended, in a word, and what it said."""
    word: str
    said: str

    def lines(self):
        text = self.said
        for pattern, instead in UNSTEADY:
            text = re.sub(pattern, instead, text)
        return [*text.splitlines(), f"({self.word})"]


def libpqxx():
    """The tests, from what the sources register; the runners take a test's name."""
    source, build = debian_source.unpacked("libpqxx", FOLDER), FOLDER / "libpqxx-build"
    runners = {source / "test": build / "test/runner", source / "test/unit": build / "test/unit/unit_runner"}
    if not all(runner.exists() for runner in runners.values()):
        print("building libpqxx", flush=True)
        subprocess.run(["cmake", "-S", source, "-B", build, "-G", "Ninja", "-DCMAKE_CXX_FLAGS=-O0 -w",
                        "-DPostgreSQL_TYPE_INCLUDE_DIR=/usr/include/postgresql"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["cmake", "--build", build], check=True, stdout=subprocess.DEVNULL)
    for folder, runner in runners.items():
        for file in sorted(folder.glob("test*.cxx")):
            for name in re.findall(r"PQXX_REGISTER_TEST\((\w+)\);", file.read_text()):
                yield Test(name, (runner, name))


def libpqxx_word(status, said):
    if "\nRan 0 test(s)." in said and "unsupported feature" in said:
        return "refused"  # libpqxx takes 0A000 for a server that is too old, and goes on
    return "passed" if status == 0 and "\nRan 1 test(s)." in said else "failed"


SUITES = {"libpqxx": (libpqxx, libpqxx_word)}


def run(test, word, endpoint, scratch):
    environment = {**os.environ, **endpoint.environment(), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    try:
        done = subprocess.run(test.command, cwd=scratch, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=TEST_TIMEOUT_S * PATIENCE, check=False)
    except subprocess.TimeoutExpired as late:
        return Outcome("no answer in time", (late.stdout or b"").decode(errors="replace"))
    said = done.stdout.decode(errors="replace")
    return Outcome(f"crashed by signal {-done.returncode}" if done.returncode < 0 else word(done.returncode, said), said)


def run_suite(name, wanted, sides):
    """Runs and reports; {side: (equal, all)}."""
    tests, word = SUITES[name]
    counts = {side: [0, 0] for side in sides if side != "plain"}
    passed = dict.fromkeys(sides, 0)
    scratch = scratch_directory("compat")
    give_to_account(scratch)
    for old in FOLDER.glob(f"{name}.*.diff"):
        old.unlink()
    endpoints = {}
    for side, server in sides.items():
        server.endpoint.run(f"CREATE DATABASE {name}")
        endpoints[side] = server.endpoint.change(database=name)
    for test in tests():
        if wanted not in test.name:
            continue
        outcomes = {side: run(test, word, endpoint, scratch) for side, endpoint in endpoints.items()}
        report = [f"{'plain: ' + outcomes['plain'].word:24}"]
        for side, outcome in outcomes.items():
            passed[side] += outcome.word == "passed"
            if side == "plain":
                continue
            expected, got = outcomes["plain"].lines(), outcome.lines()
            counts[side][0] += got == expected
            counts[side][1] += 1
            report.append(f"{side}: {'same' if got == expected else 'DIFFERENT, ' + outcome.word:32}")
            if got != expected:
                lines = difflib.unified_diff(expected, got, "PostgreSQL", side, lineterm="", n=2)
                (FOLDER / f"{name}.{test.name}.{side}.diff").write_text("\n".join(lines) + "\n")
        print(f"{test.name:34} {' '.join(report)}".rstrip(), flush=True)
    shutil.rmtree(scratch, ignore_errors=True)
    print(f"{name}: passed by " + ", ".join(f"{side} {count}" for side, count in passed.items()), flush=True)
    return counts


def main():
    parser = argparse.ArgumentParser(prog="x compat drivers", description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], help="default: all")
    parser.add_argument("-k", dest="word", default="", help="only tests whose name contains this")
    parser.add_argument("--share", type=float, default=0, help="the least share of equal tests, in percent")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    sides = {"plain": PostgresServer("plain"), "one_group": DevCluster(groups=1, name="one"),
             "sharded": DevCluster(groups=4, name="four", arguments=["--sharding.default_table_type", "sharded"])}
    equal = total = 0
    shares = []
    try:
        for name in options.suites or SUITES:
            list(SUITES[name][0]())  # builds it before the servers wait
        for server in sides.values():
            server.start()
        for name in options.suites or SUITES:
            for side, (same, count) in run_suite(name, options.word, sides).items():
                equal, total = equal + same, total + count
                shares.append(f"{name}, {side:12} {same:6} of {count:6}  {100 * same / max(count, 1):6.1f} %")
    finally:
        for server in sides.values():
            server.stop()
    share = 100 * equal / max(total, 1)
    print("\n".join(shares))
    print(f"{'all':20} {equal:6} of {total:6}  {share:6.1f} %   differences in {FOLDER}")
    return 0 if share >= options.share else 1


if __name__ == "__main__":
    sys.exit(main())
