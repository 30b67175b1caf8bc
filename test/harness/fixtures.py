"""Pytest fixtures for the servers; a conftest.py takes them in with `from harness.fixtures import *`.

PGMOSAIC_TEST_SELF=1 puts a second plain PostgreSQL in the router's place: it shows that the tests themselves are right
(what they expect is what PostgreSQL does) without testing the router at all.
"""
import faulthandler
import os
import shutil
import signal
import sys

import pytest

from harness import processes
from harness.cluster import Certificates, DevCluster, PostgresServer, Router
from harness.processes import PATIENCE

LONGEST_TEST_S = 600
SELF_CHECK = bool(os.environ.get("PGMOSAIC_TEST_SELF"))

__all__ = ["SELF_CHECK", "certificates", "oracle_server", "oracle", "dev_cluster", "router", "make_dev_cluster",
           "make_server", "make_router", "pytest_configure", "pytest_sessionstart", "pytest_runtest_protocol", "pytest_runtest_setup",
           "pytest_runtest_makereport"]


@pytest.fixture(scope="session")
def certificates():
    return Certificates()


@pytest.fixture(scope="session")
def oracle_server():
    server = PostgresServer("oracle", {"timezone": "UTC"}).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def oracle(oracle_server):
    """Endpoint of the one plain PostgreSQL that says what is right."""
    return oracle_server.endpoint


@pytest.fixture(scope="session")
def dev_cluster():
    """The four-group cluster that most tests share."""
    cluster = PostgresServer("stand-in", {"timezone": "UTC"}) if SELF_CHECK else DevCluster(groups=4)
    cluster.start()
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def router(dev_cluster):
    """Endpoint of the router of the shared cluster."""
    return dev_cluster.endpoint


def _factory(kind):
    made = []

    def make(*arguments, start=True, **keywords):
        process = kind(*arguments, **keywords)
        made.append(process)
        return process.start() if start else process

    def stop():
        complaints = []
        for process in reversed(made):
            try:
                process.stop()
            except RuntimeError as error:
                complaints.append(str(error))
        for process in made:  # some hundred servers in a run, of 55 MB each
            shutil.rmtree(process.directory, ignore_errors=True)
        if complaints:
            raise RuntimeError("\n".join(complaints))

    return make, stop


def _fixture_of(kind):
    @pytest.fixture
    def fixture():
        make, stop = _factory(kind)
        yield make
        stop()
    return fixture


make_dev_cluster = _fixture_of(DevCluster)  # make_dev_cluster(groups=2, …): a cluster of the test's own
make_server = _fixture_of(PostgresServer)  # make_server("g1", settings={…})
make_router = _fixture_of(Router)  # make_router([server, …], tls=certificates, settings={…})

_log_sizes = {}


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: needs the machine for itself, as it measures time; tools/run_tests.py runs it so")


def pytest_sessionstart(session):
    """SIGTERM ends the tests as Ctrl-C does: the fixtures still stop their servers."""
    del session
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """A test that hangs fails, with the place where it does, and the next one begins."""
    def give_up(*_):
        raise TimeoutError(f"{item.nodeid} took longer than {LONGEST_TEST_S * PATIENCE:.0f} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(int(LONGEST_TEST_S * PATIENCE))
    if "PYTEST_XDIST_WORKER" in os.environ:  # one that hangs in C hears no signal; pytest-xdist puts another in its place
        faulthandler.dump_traceback_later(LONGEST_TEST_S * PATIENCE + 60, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pytest_runtest_setup(item):
    del item
    _log_sizes.clear()
    for _, path in processes.live_logs():
        _log_sizes[path] = path.stat().st_size if path.exists() else 0


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what the servers' logs said while it ran."""
    del item, call
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    for name, path in processes.live_logs():
        if not path.exists():
            continue
        with open(path, errors="replace") as log:
            log.seek(_log_sizes.get(path, 0))
            lines = log.read().splitlines()[-30:]
        if lines:
            report.sections.append((f"log of {name}: {path.name}", "\n".join(lines)))
