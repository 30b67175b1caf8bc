"""What the documents say must be there: links, verbs of x, programs and their flags."""
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import layers  # noqa: E402

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bench").glob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=[path.relative_to(ROOT).as_posix() for path in DOCUMENTS])
def test_links_lead_somewhere(document):
    targets = [target for target in LINK.findall(document.read_text()) if "://" not in target]
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert missing == []


def verbs_of_x():
    usage = subprocess.run([ROOT / "x"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^  ([a-z]+)", usage, re.MULTILINE))


def test_x_explains_every_verb_it_has():
    cases = set(re.findall(r"^  ([a-z]+)\)", (ROOT / "x").read_text(), re.MULTILINE))
    assert verbs_of_x() == cases
    assert {"demo", "build", "test", "bench", "soak", "compat", "fmt", "tidy"} <= cases


@pytest.mark.parametrize("document", DOCUMENTS, ids=[path.relative_to(ROOT).as_posix() for path in DOCUMENTS])
def test_documents_name_verbs_that_exist(document):
    named = set(re.findall(r"\./x ([a-z]+)", document.read_text()))
    assert named <= verbs_of_x()


@pytest.mark.parametrize("verb,status", [("nothing", 2), ("compat", 2)])
def test_x_says_what_it_cannot_do(verb, status):
    said = subprocess.run([ROOT / "x", verb], capture_output=True, text=True)
    assert said.returncode == status and said.stderr


def test_contributing_shows_the_arrows():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    shown = {name: below.split() for name, below in re.findall(r"^(\w+)/ +→ ((?:[a-z]+ )+) ", text, re.MULTILINE)}
    shown = {name: [] if below == ["nothing"] else below for name, below in shown.items()}
    assert shown == layers.ARROWS


def test_packages_are_listed_by_phase():
    lines = [line for line in (ROOT / "tools/packages.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"(build|run|test|bench|soak|compat|fmt|tidy) +[a-z0-9.+|-]+", line) for line in lines)


def test_nothing_names_a_home_directory():
    """No file depends on where somebody keeps this tree."""
    found = []
    for folder in ("src", "test", "tools", "bench", "docs", "cmake", "deploy", ".ci"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix not in (".pyc",) and re.search(r"/(home|root|Users)/\w+", path.read_text(
                    errors="replace")) and path != pathlib.Path(__file__):
                found.append(path.relative_to(ROOT).as_posix())
    assert found == []
