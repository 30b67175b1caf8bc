"""The README's commands and SQL, run as they stand there."""
import pathlib
import re
import subprocess

import pytest

from harness.cluster import program
from harness.dialect import strip_dialect
from harness.fixtures import SELF_CHECK
from harness.pair import databases

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def statements(block):
    """The statements of a block; comments stay where they are."""
    return [part.strip() for part in re.split(r";[ \t]*(?:--[^\n]*)?\n", block + "\n") if part.strip()]


WITH_SQL = [path for path in DOCUMENTS if blocks(path, "sql")]


@pytest.mark.parametrize("document", WITH_SQL, ids=[path.relative_to(ROOT).as_posix() for path in WITH_SQL])
def test_sql_runs(document, router):
    with databases("documented", router) as [side]:
        with side.connect() as connection:
            for block in blocks(document, "sql"):
                for statement in statements(block):
                    connection.execute(strip_dialect(statement) if SELF_CHECK else statement)


def test_readme_answers(router):
    """What the README's example says about orders is so."""
    with databases("readme", router) as [side]:
        for statement in statements(blocks(ROOT / "README.md", "sql")[0]):
            side.run(strip_dialect(statement) if SELF_CHECK else statement)
        assert [(str(count), str(total)) for count, total in side.run("SELECT count(*), sum(price) FROM orders")] == [
            ("4", "41.75")]


def test_commands_have_the_flags_that_are_named():
    text = "\n".join(block for path in DOCUMENTS for block in blocks(path, "sh"))
    named = re.findall(r"pgmosaic (\w+)((?: --[\w-]+(?: [^\s-]\S*)?)*)", text)
    assert named
    for subcommand, rest in named:
        help_text = subprocess.run([program(), subcommand, "--help"], capture_output=True, text=True, timeout=30).stdout
        for flag in re.findall(r"--([\w-]+)", rest):
            assert flag in help_text or flag.replace("-", "_") in help_text, (subcommand, flag)


def test_every_subcommand_explains_itself():
    said = subprocess.run([program(), "--help"], capture_output=True, text=True, timeout=30)
    assert said.returncode == 0
    for subcommand in ("dev", "router", "fsck", "layout"):
        assert subcommand in said.stdout
        own = subprocess.run([program(), subcommand, "--help"], capture_output=True, text=True, timeout=30)
        assert own.returncode == 0 and "--" in own.stdout
