"""One program per driver, run against the router and against plain PostgreSQL: both must print the same."""
import difflib
import os
import pathlib
import subprocess

import pytest

from harness.dialect import strip_dialect
from harness.fixtures import SELF_CHECK
from harness.pair import databases
from harness.processes import PATIENCE, ROOT, postgres_program

HERE = pathlib.Path(__file__).parent
JDBC = "/usr/share/java/postgresql.jar"
TABLES = [line for line in (HERE / "tables.sql").read_text().splitlines() if line and not line.startswith("--")]


def python(name):
    return lambda endpoint: (["/usr/bin/python3", HERE / name], {})


def psql(endpoint):
    del endpoint
    return [postgres_program("psql"), "-X", "-a", "-f", HERE / "program.sql"], {}


def node(endpoint):
    del endpoint
    places = [ROOT / "build/node/node_modules", "/usr/share/nodejs", "/usr/lib/nodejs"]
    return ["node", "--no-deprecation", HERE / "program_node.js"], {"NODE_PATH": ":".join(map(str, places))}


def jdbc(endpoint):
    url = f"jdbc:postgresql://{endpoint.host}:{endpoint.port}/{endpoint.database}"
    return ["java", "-cp", f"{os.environ['JDBC_CLASSES']}:{JDBC}", "Program", url, endpoint.user, endpoint.password], {}


PROGRAMS = {
    "psql": psql,
    "psycopg2": python("program_psycopg2.py"),
    "psycopg3": python("program_psycopg3.py"),
    "asyncpg": python("program_asyncpg.py"),
    "node": node,
    "jdbc": jdbc,
}


@pytest.fixture(scope="session", autouse=True)
def jdbc_classes(tmp_path_factory):
    """Program.java, compiled once."""
    folder = tmp_path_factory.mktemp("classes")
    subprocess.run(["javac", "-cp", JDBC, "-d", folder, HERE / "Program.java"], check=True)
    os.environ["JDBC_CLASSES"] = str(folder)


def run_program(name, endpoint, folder):
    command, extra = PROGRAMS[name](endpoint)
    folder.mkdir()
    environment = {**os.environ, **endpoint.environment(), "PYTHONDONTWRITEBYTECODE": "1", "TZ": "UTC", "LC_ALL": "C.UTF-8",
                   "SCRATCH": str(folder), **extra}
    done = subprocess.run(list(map(str, command)), env=environment, text=True, timeout=180 * PATIENCE, cwd=folder,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def steady(text):
    """The output without what must differ between two servers: where psql says that it connected to."""
    return [line for line in text.splitlines() if "You are now connected" not in line and "LOCATION:" not in line]


@pytest.mark.parametrize("name", PROGRAMS)
def test_driver(name, router, oracle, tmp_path):
    with databases(f"driver_{name}", router, oracle) as sides:
        outputs = []
        for number, side in enumerate(sides):
            plain = number == 1 or SELF_CHECK
            side.run(*(strip_dialect(sql.rstrip(";")) if plain else sql for sql in TABLES))
            status, output = run_program(name, side, tmp_path / str(number))
            assert status == 0, f"{'oracle' if number else 'router'}: status {status}\n{output[-5000:]}"
            outputs.append(steady(output))
    assert len(outputs[1]) > 10
    if outputs[0] != outputs[1]:
        lines = difflib.unified_diff(outputs[1], outputs[0], "oracle", "router", lineterm="", n=1)
        pytest.fail("\n".join(lines)[:8000], pytrace=False)
