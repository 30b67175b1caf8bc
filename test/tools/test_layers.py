"""tools/layers.py on small trees with known faults, and on this tree."""
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import layers  # noqa: E402

ARROWS = {"base": [], "net": ["base"], "sql": ["base"], "plan": ["sql"], "pool": ["net"]}
CMAKE = """room(base LINK fmt)
room(net DEPENDS base)
room(sql DEPENDS base)
room(plan DEPENDS sql)
room(pool DEPENDS net)
"""


@pytest.fixture
def tree(tmp_path):
    def make(files, cmake=CMAKE):
        (tmp_path / "CMakeLists.txt").write_text(cmake)
        (tmp_path / "src").mkdir()
        for name, text in files.items():
            path = tmp_path / "src" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return layers.check(tmp_path, ARROWS)
    return make


def test_includes_along_the_arrows_pass(tree):
    assert tree({"plan/a.cc": '#include "plan/a.h"\n#include "sql/b.h"\n#include "base/c.h"\n#include <vector>\n'}) == []


def test_upward_include_is_found_with_its_line(tree):
    assert tree({"sql/a.h": '#pragma once\n  #  include "plan/b.h"\n'}) == [
        'src/sql/a.h:2: "plan/b.h": sql may not include plan']


def test_sideways_include_is_found(tree):
    assert tree({"plan/a.cc": '#include "net/b.h"\n'}) == ['src/plan/a.cc:1: "net/b.h": plan may not include net']


def test_include_without_room_is_found(tree):
    assert tree({"sql/a.cc": '#include "b.h"\n'}) == ['src/sql/a.cc:1: "b.h": write the path from src/, as "sql/b.h"']


def test_unknown_room_is_found(tree):
    assert tree({"attic/a.cc": ""}) == ["src/attic/a.cc: not in a room of src/"]


def test_library_of_another_room_is_found(tree):
    complaints = tree({"plan/a.cc": "#include <boost/asio.hpp>\n#include <sqlite3.h>\n",
                       "net/a.cc": "#include <asio/ip.hpp>\n"})
    assert complaints == ["src/plan/a.cc:1: <boost/asio.hpp> belongs to net",
                          "src/plan/a.cc:2: <sqlite3.h> belongs to meta"]


def test_only_tests_see_the_harness(tree):
    complaints = tree({"sql/a_pgtest.cc": '#include "harness/server.h"\n', "sql/a.cc": '#include "harness/server.h"\n'})
    assert complaints == ['src/sql/a.cc:1: "harness/server.h": harness is no room of src/']


def test_cmake_that_disagrees_is_found(tree):
    other = CMAKE.replace("room(plan DEPENDS sql)", "room(plan DEPENDS sql net LINK x)") + "room(attic)\n"
    complaints = tree({}, other)
    assert complaints == ["CMakeLists.txt: room attic has no arrow in tools/layers.py",
                          "CMakeLists.txt: room plan depends on sql net, its arrow says sql"]


def test_arrows_have_no_cycle():
    closed = layers.reachable(layers.ARROWS)
    for room, below in layers.ARROWS.items():
        assert all(room not in closed[other] for other in below)


def test_this_tree_is_clean():
    complaints = layers.check(ROOT)
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)
