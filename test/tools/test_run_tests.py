"""tools/run_tests.py counts every test once, and hides nothing that went wrong."""
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import run_tests  # noqa: E402

PASSED = '<testcase classname="a" name="passes"/>'
SKIPPED = '<testcase classname="a" name="skips"><skipped/></testcase>'
FAILED = '<testcase classname="a" name="fails"><failure/></testcase>'
NOT_CLEANED = '<testcase classname="a" name="fails"><error/></testcase>'
CRASHED = '<testcase classname="a" name="crashes"><error/></testcase>'


@pytest.fixture
def run(tmp_path, monkeypatch):
    """What is counted where pytest writes such a report and ends with such a status; None: it is not run at all."""
    def run(*ends, kind="tools"):
        ends, commands, totals = list(ends), [], run_tests.Totals()

        def step(_kind, _name, command, _totals, _environment):
            commands.append(command)
            report, status = ends.pop(0)
            if report is not None:
                path = next(word.split("=")[1] for word in command if word.startswith("--junitxml="))
                pathlib.Path(path).write_text(report)
            if status is KeyboardInterrupt:
                raise KeyboardInterrupt
            return status

        monkeypatch.setattr(run_tests, "run_step", step)
        monkeypatch.setattr(run_tests, "scratch_parent", lambda: tmp_path)
        try:
            run_tests.run_pytest(tmp_path, kind, totals, "")
        except KeyboardInterrupt:
            totals.fail("interrupted")
        assert list(tmp_path.iterdir()) == []
        return (totals.passed, totals.failed, totals.skipped), totals.failures, commands
    return run


def report(*cases):
    return f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>"


@pytest.mark.parametrize("cases,status,counted", [
    ([PASSED], 0, (1, 0, 0)),
    ([PASSED, SKIPPED], 0, (1, 0, 1)),
    ([], 5, (0, 0, 0)),
    ([PASSED, FAILED, CRASHED], 1, (1, 2, 0)),
    ([PASSED, FAILED, NOT_CLEANED], 1, (1, 1, 0)),
    ([PASSED], 1, (1, 1, 0)),
    ([PASSED], 2, (1, 1, 0)),
    ([PASSED, FAILED], None, (1, 2, 0)),
    ([PASSED, FAILED], -9, (1, 2, 0)),
    ([PASSED], KeyboardInterrupt, (1, 1, 0)),
])
def test_each_counts_once(run, cases, status, counted):
    found, failures, _ = run((report(*cases), status))
    assert found == counted and len(failures) == counted[1]


@pytest.mark.parametrize("text", [None, "", report(PASSED)[:-5]])
def test_no_report(run, text):
    assert run((text, -9))[0][1] == 1


def test_the_end_to_end_tests_are_run_by_two_and_then_alone(run, monkeypatch):
    monkeypatch.delenv("PGMOSAIC_REWRITE", raising=False)
    found, failures, commands = run((report(PASSED, FAILED), 1), (report(PASSED, SKIPPED), 0), kind="e2e")
    assert found == (2, 1, 1) and failures == ["test/e2e, two at a time: a::fails"]
    markers = [command[command.index("-m", 3) + 1] for command in commands]
    assert markers == ["not alone", "alone"]
    assert [command[command.index("-n") + 1] for command in commands if "-n" in command] == ["2"]


def test_one_process_writes_the_refusals(run, monkeypatch):
    monkeypatch.setenv("PGMOSAIC_REWRITE", "1")
    _, _, [command] = run((report(PASSED), 0), kind="e2e")
    assert "-n" not in command and command.count("-m") == 1  # of python3 -m pytest
