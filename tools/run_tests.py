#!/usr/bin/env python3
"""Runs every test of the built tree and adds the cases up: the last line is `N passed, N failed, N skipped`.

Kinds: tools (the checkers of tools/ and this tree's manners), unit (*_test.cc), pg (*_pgtest.cc: these start PostgreSQL
servers), e2e (test/e2e: the router against one plain PostgreSQL) drivers (test/drivers) and orms (test/orms). `./x test` builds first
and hands the result of that in. The end-to-end tests run two at a time, and those marked `alone` behind them by themselves.

Nothing that a test started outlives it: this process adopts orphans (it is a subreaper) and ends all its descendants
after each step and when it is interrupted.
"""
import argparse
import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
KINDS = ["tools", "unit", "pg", "e2e", "drivers", "orms"]
STEP_TIMEOUT_S = {"tools": 300, "unit": 900, "pg": 1800, "e2e": 3600, "drivers": 1800, "orms": 900}
PR_SET_CHILD_SUBREAPER = 36
FOLDERS = {"tools": "test/tools", "e2e": "test/e2e", "drivers": "test/drivers", "orms": "test/orms"}
# What pytest is told in each of its runs. Two workers of pytest-xdist share the end-to-end tests, each with a cluster of
# its own; a third run has the machine for itself.
TOGETHER, ALONE = ["-n", "2", "--dist=load", "-m", "not alone"], ["-m", "alone"]
RUNS = {"e2e": {"two at a time": TOGETHER, "one at a time": ALONE}}
IN_MEMORY_FROM = 8 << 30  # bytes; the servers of two workers take about a quarter of that


class Totals:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures = []

    def add(self, passed, failed, skipped):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped

    def fail(self, what):
        self.failed += 1
        self.failures.append(what)


def descendants():
    """Process ids below this one, children before their own children."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parents[int(entry)] = int(file.read().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
    found = [os.getpid()]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found[1:]


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def end_descendants(patience_s=10):
    """Asks what is left to end (SIGTERM; SIGINT makes PostgreSQL do a fast shutdown), then kills it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + patience_s / 2
        for pid in descendants():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass
        while time.monotonic() < deadline:
            reap()
            if not descendants():
                return
            time.sleep(0.05)
    reap()


def run_step(kind, name, command, totals, environment=None):
    """Runs one command to its end; false if it did not end well."""
    print(f"==> {name}", flush=True)
    started = time.monotonic()
    step = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **(environment or {})}, stdin=subprocess.DEVNULL)
    try:
        status = step.wait(timeout=STEP_TIMEOUT_S[kind])
    except subprocess.TimeoutExpired:
        print(f"{name}: still running after {STEP_TIMEOUT_S[kind]} s, stopped", flush=True)
        status = None
    finally:
        end_descendants()
    print(f"    {time.monotonic() - started:.1f} s", flush=True)
    return status


def run_gtests(build, kind, totals, word):
    label = {"unit": "test", "pg": "pgtest"}[kind]
    listing = subprocess.run(["ctest", "--test-dir", str(build), "--show-only=json-v1"], capture_output=True, text=True)
    if listing.returncode != 0:
        totals.fail(f"{kind}: no list of tests in {build.name} (not configured?)")
        return
    for test in json.loads(listing.stdout)["tests"]:
        labels = [value for entry in test["properties"] if entry["name"] == "LABELS" for value in entry["value"]]
        if label not in labels:
            continue
        name = test["name"]
        if not test.get("command") or not os.path.exists(test["command"][0]):
            totals.fail(f"{name}: not built")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            report = pathlib.Path(scratch, "report.json")
            command = [*test["command"], "--gtest_brief=1", f"--gtest_output=json:{report}"]
            command += [f"--gtest_filter=*{word}*"] if word else []
            status = run_step(kind, name, command, totals)
            count_gtest(name, report, status, totals)


def count_gtest(name, report, status, totals):
    failed = 0
    if report.exists():
        for suite in json.loads(report.read_text())["testsuites"]:
            for case in suite["testsuite"]:
                if case.get("failures"):
                    failed += 1
                    totals.failures.append(f"{name}: {suite['name']}.{case['name']}")
                    totals.add(0, 1, 0)
                elif case.get("result") == "SKIPPED" or case.get("status") == "NOTRUN":
                    totals.add(0, 0, 1)
                else:
                    totals.add(1, 0, 0)
    if status != 0 and not failed:
        totals.fail(f"{name}: ended with {'a timeout' if status is None else f'status {status}'}")


def scratch_parent():
    """Where the servers' data lie: in memory where there is plenty (it makes databases several times as fast), or on disk."""
    memory = pathlib.Path("/dev/shm")
    with open("/proc/meminfo") as file:
        available = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file}["MemAvailable"]
    plenty = os.access(memory, os.W_OK | os.X_OK) and min(available, shutil.disk_usage(memory).free) >= IN_MEMORY_FROM
    return memory if plenty else None


def run_pytest(build, kind, totals, word):
    folder = FOLDERS[kind]
    runs = {} if os.environ.get("PGMOSAIC_REWRITE") else RUNS  # refusals.txt is written by one process
    for manner, options in runs.get(kind, {"": []}).items():
        name = f"{folder}, {manner}" if manner else folder
        with tempfile.TemporaryDirectory(prefix="pgmosaic-tests-", dir=scratch_parent(), ignore_cleanup_errors=True) as scratch:
            os.chmod(scratch, 0o755)  # PostgreSQL runs as another account
            report = pathlib.Path(scratch, "report.xml")
            command = ["/usr/bin/python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "--durations=20",
                       f"--junitxml={report}", *options, folder]
            command += ["-k", word] if word else []
            try:
                status = run_step(kind, f"pytest {name}", command, totals, {
                    "PGMOSAIC_BUILD": str(build), "PGMOSAIC_TEST_SCRATCH": scratch, "PYTHONDONTWRITEBYTECODE": "1"})
            finally:
                failed = count_pytest(name, report, totals)
            if status not in (0, 5) and not (status == 1 and failed):  # 1: tests failed, 5: no test matched -k
                totals.fail(f"{name}: ended with {'a timeout' if status is None else f'status {status}'}")


def count_pytest(name, report, totals):
    """Each test counts once: one that fails and then cannot clean up either stands in the report twice. How many failed."""
    outcomes = {}
    with contextlib.suppress(FileNotFoundError, xml.etree.ElementTree.ParseError):  # pytest was killed
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            outcomes.setdefault(f"{case.get('classname')}::{case.get('name')}", set()).update(child.tag for child in case)
    failed = [test for test, outcome in outcomes.items() if outcome & {"failure", "error"}]
    skipped = sum("skipped" in outcome for test, outcome in outcomes.items() if test not in failed)
    totals.add(len(outcomes) - len(failed) - skipped, len(failed), skipped)
    totals.failures += [f"{name}: {test}" for test in failed]
    return len(failed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], help="default: all of them")
    parser.add_argument("-k", dest="word", default="", help="only cases whose name contains this")
    parser.add_argument("--preset", default="release", help="which build to test")
    parser.add_argument("--build-status", type=int, default=0, help="how the build before this ended")
    arguments = parser.parse_args()
    build = ROOT / "build" / arguments.preset
    totals = Totals()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a shell's background job has SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    try:
        if arguments.build_status != 0:
            totals.fail("the build")
        for kind in arguments.kinds or KINDS:
            if arguments.build_status != 0 and kind != "tools":
                continue
            (run_gtests if kind in ("unit", "pg") else run_pytest)(build, kind, totals, arguments.word)
    except KeyboardInterrupt:
        totals.fail("interrupted")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        end_descendants()
    if totals.failures:
        print("\nfailed:")
        for failure in totals.failures:
            print(f"  {failure}")
    print(f"{totals.passed} passed, {totals.failed} failed, {totals.skipped} skipped", flush=True)
    return 1 if totals.failed else 0


if __name__ == "__main__":
    sys.exit(main())
