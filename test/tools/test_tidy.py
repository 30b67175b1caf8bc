"""tools/tidy.py on small trees with known faults, and on this tree."""
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import tidy  # noqa: E402


def body(lines):
    return "".join(f"  int v{n} = {n};\n" for n in range(lines))


@pytest.fixture
def tree(tmp_path):
    def make(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path
    return make


@pytest.mark.parametrize("text,expected", [
    ("int f() {\n  return 1;\n}\n", [("f", 1, 3)]),
    ("namespace a {\nvoid f(\n    int x) {\n}\n}\n", [("f", 2, 3)]),
    ("struct S {\n  S() : a_{1}, b_{2} {\n    go();\n  }\n  int a_{0};\n};\n", [("S", 2, 3)]),
    ("enum class E { a, b };\nint table[] = {1, 2};\nint g() { return 2; }\n", [("g", 3, 1)]),
    ("// f() {\n/* g() { */\nconst char* s = \"h() {\";\nchar c = '{';\nint k() {\n}\n", [("k", 5, 2)]),
    ("auto s = R\"x( } } { )x\";\n#define M(a) { a }\nint f() {\n  auto l = [](int i) {\n    return i;\n  };\n}\n",
     [("f", 3, 5)]),
    ("TEST(Shape, folds_blanks) {\n  if (a) {\n  }\n}\n", [("Shape.folds_blanks", 1, 4)]),
    ("int a = 1'000'000;\nint f() {\n}\n", [("f", 2, 2)]),
    ("template <class T>\nclass R {\n public:\n  T& get() & {\n    return x;\n  }\n};\n", [("get", 4, 3)]),
])
def test_functions_are_measured(text, expected):
    assert tidy.functions(text) == expected


def test_large_things_are_found(tree):
    root = tree({
        "src/a/long.cc": "\n" * 601,
        "src/a/fits.cc": "\n" * 600,
        "src/a/long.h": "#pragma once\n" + "\n" * 250,
        "src/a/f.cc": "int f() {\n" + body(69) + "}\nint g() {\n" + body(68) + "}\n",
    })
    assert tidy.measure(root) == {("file", "src/a/long.cc"): 601, ("header", "src/a/long.h"): 251,
                                  ("function", "src/a/f.cc:f"): 71}


def test_exceptions_only_shrink():
    large = {("file", "src/a.cc"): 700, ("file", "src/b.cc"): 650, ("function", "src/c.cc:f"): 80}
    listed = {("file", "src/a.cc"): 690, ("file", "src/b.cc"): 660, ("file", "src/gone.cc"): 900}
    assert list(tidy.compare(large, listed)) == [
        "src/a.cc: file grew to 700 lines, its exception says 690",
        "src/c.cc:f: function of 80 lines, 70 allowed",
        "tools/tidy_exceptions.txt: file src/gone.cc is no longer needed; run tools/tidy.py --lower",
    ]


def test_lower_never_raises_or_adds(tree):
    root = tree({"list.txt": "# why\nfile src/a.cc 690\nfile src/b.cc 660\nfile src/gone.cc 900\n"})
    tidy.lower(root / "list.txt", {("file", "src/a.cc"): 700, ("file", "src/b.cc"): 650, ("file", "src/new.cc"): 700})
    assert (root / "list.txt").read_text() == "# why\nfile src/a.cc 690\nfile src/b.cc 650\n"


def test_manners(tree):
    root = tree({"src/a.h": "#pragma once\nint a; \n", "src/b.h": "int\tb;\n", "src/c.cc": "x" * 141 + "\nint c;"})
    assert list(tidy.manners(root)) == [
        "src/a.h:2: a blank at the end of the line",
        "src/b.h: no #pragma once",
        "src/b.h:1: a tab",
        "src/c.cc: no newline at the end",
        "src/c.cc:1: 141 columns, 140 allowed",
    ]


def test_this_tree_is_clean():
    large = tidy.measure(ROOT)
    listed = tidy.read_exceptions(ROOT / "tools/tidy_exceptions.txt")
    complaints = [*tidy.compare(large, listed), *tidy.manners(ROOT)]
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)
