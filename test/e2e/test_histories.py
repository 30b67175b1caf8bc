"""What clients saw of each other's transactions, judged as a whole."""
import pytest

from harness.dialect import strip_dialect
from harness.fixtures import SELF_CHECK
from harness.histories import COMMITTED, anomalies
from harness.list_append import TABLE, ListAppend
from harness.pair import databases
from harness.processes import PATIENCE

TRANSACTIONS = 800


def history_of(endpoint):
    history = ListAppend(endpoint, TRANSACTIONS).run(180 * PATIENCE)
    assert sum(each.outcome == COMMITTED for each in history) > TRANSACTIONS / 2
    assert sum(len(read) > 1 for each in history for read in each.reads) > TRANSACTIONS / 4
    return history


def test_histories(router):
    with databases("histories", router) as [endpoint]:
        endpoint.run(*map(strip_dialect if SELF_CHECK else str, TABLE))
        assert anomalies(history_of(endpoint)) == []


def test_of_one_postgres(oracle):
    with databases("histories", oracle) as [endpoint]:
        endpoint.run(*map(strip_dialect, TABLE))
        assert anomalies(history_of(endpoint)) == []


@pytest.mark.skipif(SELF_CHECK, reason="about several servers")
def test_torn_reads_are_found(make_server, make_router):
    router = make_router([make_server(name) for name in ("g1", "g2")], settings={"sharding": {"untorn_reads": False}})
    router.endpoint.run(*TABLE)
    found = anomalies(history_of(router.endpoint))
    assert any(line.startswith("fractured read") for line in found)
