"""The checker of histories finds each anomaly, and none where there is none."""
import pytest

from harness.histories import ABORTED, Transaction, anomalies

WRITER = Transaction(1, appends=[("x", 1), ("y", 2)])


def test_good_histories():
    assert anomalies([WRITER, Transaction(2, reads=[{"x": [1], "y": [2]}]), Transaction(3, reads=[{"x": [], "y": []}]),
                      Transaction(4, appends=[("x", 3)], reads=[{"x": [1]}], one_snapshot=True),
                      Transaction(5, reads=[{"x": [1, 3]}, {"y": [2]}])]) == []
    # Two statements of READ COMMITTED may see different moments.
    assert anomalies([WRITER, Transaction(2, reads=[{"x": []}, {"y": [2]}])]) == []


@pytest.mark.parametrize("what, history", [
    ("fractured read", [WRITER, Transaction(2, reads=[{"x": [1], "y": []}])]),
    ("fractured read", [WRITER, Transaction(2, reads=[{"x": []}, {"y": [2]}], one_snapshot=True)]),
    ("G1a", [Transaction(1, appends=[("x", 1)], outcome=ABORTED), Transaction(2, reads=[{"x": [1]}])]),
    ("G1b", [Transaction(1, appends=[("x", 1), ("x", 2)]), Transaction(2, reads=[{"x": [1]}])]),
    ("G0", [WRITER, Transaction(2, appends=[("x", 3), ("y", 4)]), Transaction(3, reads=[{"x": [1, 3]}, {"y": [4, 2]}])]),
    ("G1c", [Transaction(1, appends=[("x", 1)], reads=[{"y": [2]}]), Transaction(2, appends=[("y", 2)], reads=[{"x": [1]}])]),
    ("lost update", [Transaction(1, appends=[("x", 1)], reads=[{"x": []}], one_snapshot=True),
                     Transaction(2, appends=[("x", 2)], reads=[{"x": []}], one_snapshot=True),
                     Transaction(3, reads=[{"x": [1, 2]}])]),
    ("incompatible orders", [WRITER, Transaction(2, appends=[("x", 3)]), Transaction(4, reads=[{"x": [1, 3]}]),
                             Transaction(5, reads=[{"x": [3]}])]),
    ("garbage", [Transaction(1, reads=[{"x": [9]}])]),
    ("a value twice", [WRITER, Transaction(2, reads=[{"x": [1, 1]}])]),
])
def test_anomalies(what, history):
    found = anomalies(history)
    assert any(line.startswith(what) for line in found), found
