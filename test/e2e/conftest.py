"""Fixtures of test/harness for the tests here."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness.fixtures import *  # noqa: E402,F401,F403


def pytest_collection_modifyitems(items):
    """The .slt files come last: many short tests, with which two processes that share the work end at the same time."""
    items.sort(key=lambda item: item.path.stem == "test_slt")
