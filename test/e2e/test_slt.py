"""Every .slt file here, on the router and on one plain PostgreSQL. The format is explained in harness/slt.py."""
import pathlib

import pytest

from harness import fsck, slt
from harness.fixtures import SELF_CHECK
from harness.pair import databases

FOLDER = pathlib.Path(__file__).parent
FILES = sorted(FOLDER.glob("*.slt"))


@pytest.mark.parametrize("mode", slt.MODES)
@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_slt(file, mode, router, oracle, record_property):
    blocks = slt.parse(file.read_text(), file.name)
    with databases(f"slt_{file.stem}_{mode}", router, oracle) as sides:
        runner = slt.Runner(*sides, mode, SELF_CHECK)
        problems = runner.run(blocks)
        problems += [f"fsck: {' '.join(difference)}" for difference in fsck.differences(sides[0])]
        record_property("refused", len(runner.refused))
    if problems:
        pytest.fail("\n".join([f"{file.name}, {mode}:", *problems]), pytrace=False)
