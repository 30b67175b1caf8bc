"""A router starts only over the groups that its cluster was made with: anything else would give partial answers."""
import subprocess

import pytest

from harness.cluster import program
from harness.processes import PATIENCE

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v int) SHARD BY (id)"
ROWS = "INSERT INTO t VALUES " + ", ".join(f"({i}, {i})" for i in range(1, 101))


@pytest.fixture
def made(make_server, make_router):
    """A cluster of two groups with rows, and its router, which has been stopped."""
    router = make_router([make_server("g1"), make_server("g2")])
    router.endpoint.run(TABLE, ROWS)
    router.stop()
    return router


def refused(router):
    said = subprocess.run([program(), "router", "--config", router.file], capture_output=True, text=True,
                          timeout=60 * PATIENCE)
    assert said.returncode != 0
    return said.stderr + said.stdout


def sections(router):
    head, *groups = router.file.read_text().split("[[group]]")
    return head, groups


def rewrite(router, head, groups):
    router.file.write_text("[[group]]".join([head, *groups]))


def test_swapped_servers(made):
    head, (first, second) = sections(made)
    ports = [server.endpoint.port for server in made.servers]
    rewrite(made, head, [first.replace(str(ports[0]), str(ports[1])), second.replace(str(ports[1]), str(ports[0]))])
    assert 'is group "g2", not "home"' in refused(made)


def test_another_store(made):
    made.file.write_text(made.file.read_text().replace("metadata.db", "other.db"))
    said = refused(made)
    assert "belongs to another cluster" in said and "metadata.path" in said


def test_a_group_left_out(made):
    head, (first, _) = sections(made)
    rewrite(made, head, [first])
    assert 'group "g2" of this cluster is not configured' in refused(made)


def test_a_group_added(made, make_server):
    third = make_server("g3")
    third.make_internal_role()
    head, (first, second) = sections(made)
    added = second.replace('"g2"', '"g3"').replace(str(made.servers[1].endpoint.port), str(third.endpoint.port))
    rewrite(made, head, [first, second.rstrip("\n") + "\n\n", added])
    assert 'group "g3" is not of this cluster' in refused(made)


def test_another_order(made):
    head, (first, second) = sections(made)
    rewrite(made, head, [second.rstrip("\n") + "\n\n", first])
    assert "another order" in refused(made)


def test_the_right_ones(made):
    made.start()
    assert made.endpoint.run("SELECT count(*) FROM t") == [(100,)]
