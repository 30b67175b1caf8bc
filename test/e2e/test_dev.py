"""`pgmosaic dev`: starts, stops, starts again, survives kill -9, and settles what it left in doubt."""
import os
import signal
import subprocess

import psycopg
import pytest

from harness import fsck, processes
from harness.cluster import DevCluster, program
from harness.processes import descendants, still_alive, wait_until

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v int) SHARD BY (id)"
ROWS = "INSERT INTO t VALUES " + ", ".join(f"({i}, {i})" for i in range(1, 101))


def total(cluster):
    return cluster.endpoint.run("SELECT count(*), sum(v) FROM t")[0]


def test_stop_and_start_again(make_dev_cluster):
    cluster = make_dev_cluster(groups=2)
    cluster.endpoint.run(TABLE, ROWS, "CREATE DATABASE second", "CREATE ROLE someone LOGIN PASSWORD 'secret of theirs'")
    family = {cluster.pid: None, **descendants(cluster.pid)}
    assert len(family) > 2
    assert cluster.stop() == 0
    again = DevCluster(groups=2, name="again", directory=cluster.directory).start()
    try:
        assert total(again) == (100, 5050)
        assert again.endpoint.change(database="second").run("SELECT 1") == [(1,)]
        as_someone = again.endpoint.change(user="someone", password="secret of theirs")
        assert as_someone.run("SELECT current_user") == [("someone",)]
        groups = again.endpoint.run("SELECT count(*) FROM pgmosaic.groups")
        assert groups == [(2,)]
    finally:
        again.stop()


def test_interrupt_stops_all(make_dev_cluster):
    cluster = make_dev_cluster(groups=1)
    family = descendants(cluster.pid)
    os.kill(cluster.pid, signal.SIGINT)
    assert cluster.process.wait(timeout=30 * processes.PATIENCE) == 0
    assert not still_alive(family)


def test_stop_while_clients_work(make_dev_cluster):
    """SIGTERM lets a running transaction finish, and idle clients are told."""
    cluster = make_dev_cluster(groups=2)
    cluster.endpoint.run(TABLE, ROWS)
    busy, idle = cluster.endpoint.connect(autocommit=False), cluster.endpoint.connect()
    idle.execute("SELECT 1")
    busy.execute("UPDATE t SET v = v + 1")
    os.kill(cluster.pid, signal.SIGTERM)
    busy.execute("UPDATE t SET v = v + 1")
    busy.commit()
    with pytest.raises(psycopg.OperationalError):
        wait_until(lambda: idle.execute("SELECT 1") is None, "the idle client's connection to end", timeout_s=20)
    assert cluster.process.wait(timeout=60 * processes.PATIENCE) == 0
    again = DevCluster(groups=2, name="again", directory=cluster.directory).start()
    try:
        assert total(again) == (100, 5250)
    finally:
        again.stop()


@pytest.mark.parametrize("number", range(3))
def test_kill_and_recover(make_dev_cluster, number):
    """kill -9 of the whole process in the middle of multi-group transactions: all of each, or nothing."""
    cluster = make_dev_cluster(groups=3, name=f"killed{number}")
    cluster.endpoint.run(TABLE, ROWS)
    family = descendants(cluster.pid)
    writer = subprocess.Popen(["/usr/bin/python3", "-c", WRITER, cluster.endpoint.conninfo()], stdout=subprocess.PIPE,
                              text=True)
    acknowledged = 0
    while acknowledged < 20 + 7 * number:
        acknowledged = int(writer.stdout.readline())
    cluster.kill()
    for line in writer.stdout:
        acknowledged = int(line)
    writer.wait()
    wait_until(lambda: not still_alive(family), "the servers of a killed process to end", timeout_s=30)
    again = DevCluster(groups=3, name=f"recovered{number}", directory=cluster.directory).start()
    try:
        count, found = again.endpoint.run("SELECT count(*), sum(v) FROM t")[0]
        rounds, rest = divmod(found - 5050, 100)
        assert (count, rest) == (100, 0), "half of a transaction is there"
        assert acknowledged <= rounds <= acknowledged + 1
        again.endpoint.run("UPDATE t SET v = v")  # no lock of a transaction in doubt is left
        assert again.endpoint.run("SELECT count(*) FROM pg_prepared_xacts") == [(0,)]
    finally:
        again.stop()


def test_roles_of_a_killed_transaction_are_gone(make_dev_cluster):
    cluster = make_dev_cluster(groups=2, name="roles")
    cluster.endpoint.run(TABLE, "CREATE ROLE there")
    family = descendants(cluster.pid)
    with cluster.endpoint.connect(autocommit=False) as connection:
        connection.execute("CREATE ROLE half LOGIN SUPERUSER")
        connection.execute("GRANT SELECT ON t TO half")
        assert cluster.endpoint.run("SELECT rolcanlogin, rolsuper FROM pg_roles WHERE rolname = 'half'") == [(False, False)]
        cluster.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    wait_until(lambda: not still_alive(family), "the servers of a killed process to end", timeout_s=30)
    again = DevCluster(groups=2, name="roles again", directory=cluster.directory).start()
    try:
        assert again.endpoint.run("SELECT rolname FROM pg_roles WHERE rolname IN ('half', 'there')") == [("there",)]
        again.endpoint.run("CREATE ROLE half")
    finally:
        again.stop()


@pytest.mark.parametrize("number", range(3))
def test_a_killed_rename_is_finished(make_dev_cluster, number):
    """kill -9 while a database goes from one name to another and back: it has one of them, on all groups, and all its rows."""
    cluster = make_dev_cluster(groups=2, name=f"renamed{number}")
    cluster.endpoint.run("CREATE DATABASE one")
    cluster.endpoint.change(database="one").run(TABLE, ROWS)
    family = descendants(cluster.pid)
    renamer = subprocess.Popen(["/usr/bin/python3", "-c", RENAMER, cluster.endpoint.conninfo()], stdout=subprocess.PIPE,
                               text=True)
    for _ in range(2 + number):
        renamer.stdout.readline()
    cluster.kill()
    renamer.wait()
    wait_until(lambda: not still_alive(family), "the servers of a killed process to end", timeout_s=30)
    again = DevCluster(groups=2, name=f"renamed again{number}", directory=cluster.directory).start()
    try:
        names = [row[0] for row in again.endpoint.run("SELECT datname FROM pg_database WHERE datname IN ('one', 'two')")]
        assert len(names) == 1
        database = again.endpoint.change(database=names[0])
        assert database.run("SELECT count(*), sum(v) FROM t") == [(100, 5050)]
        database.run("INSERT INTO t VALUES (200, 1), (201, 1), (202, 1), (203, 1)")
        assert fsck.differences(database) == []
        again.endpoint.run(f"ALTER DATABASE {names[0]} RENAME TO three")
        assert again.endpoint.change(database="three").run("SELECT count(*) FROM t") == [(104,)]
    finally:
        again.stop()


RENAMER = """
import psycopg, sys
connection = psycopg.connect(sys.argv[1], autocommit=True)
try:
    while True:
        for old, new in (("one", "two"), ("two", "one")):
            connection.execute(f"ALTER DATABASE {old} RENAME TO {new}")
            print(new, flush=True)
except psycopg.Error:
    pass
"""

WRITER = """
import psycopg, sys
connection = psycopg.connect(sys.argv[1])
done = 0
try:
    while True:
        connection.execute("UPDATE t SET v = v + 1")
        connection.commit()
        done += 1
        print(done, flush=True)
except psycopg.Error:
    pass
"""


def test_two_on_one_directory_is_an_error(make_dev_cluster):
    cluster = make_dev_cluster(groups=1)
    second = subprocess.run([program(), "dev", "--data-dir", cluster.data, "--groups", "1"], capture_output=True, text=True,
                            timeout=60 * processes.PATIENCE)
    assert second.returncode != 0 and str(cluster.data) in second.stderr + second.stdout
    assert cluster.endpoint.run("SELECT 1") == [(1,)]


def test_another_number_of_groups_is_an_error(make_dev_cluster):
    cluster = make_dev_cluster(groups=1)
    cluster.endpoint.run(TABLE, ROWS)
    cluster.stop()
    other = subprocess.run([program(), "dev", "--data-dir", cluster.data, "--groups", "3"], capture_output=True, text=True,
                           timeout=60 * processes.PATIENCE)
    assert other.returncode != 0 and "groups" in other.stderr + other.stdout


def test_given_port(make_dev_cluster):
    port = processes.free_port()
    cluster = make_dev_cluster(groups=1, arguments=["--port", str(port)])
    assert cluster.endpoint.port == port


@pytest.mark.parametrize("arguments,words", [
    (["dev", "--groups", "none"], ["groups"]),
    (["dev", "--nothing", "1"], ["nothing"]),
    (["router", "--config", "/nowhere/router.toml"], ["/nowhere/router.toml"]),
    (["nothing"], ["nothing"]),
])
def test_wrong_arguments_are_named(arguments, words):
    said = subprocess.run([program(), *arguments], capture_output=True, text=True, timeout=30)
    assert said.returncode != 0
    assert all(word in said.stderr + said.stdout for word in words)


def test_a_wrong_setting_names_file_and_line(tmp_path):
    file = tmp_path / "router.toml"
    file.write_text('port = 6543\n\n[pool]\nmode = "sometimes"\n')
    said = subprocess.run([program(), "router", "--config", file], capture_output=True, text=True, timeout=30)
    assert said.returncode != 0
    assert f"{file}:4" in said.stderr + said.stdout
    assert all(word in said.stderr + said.stdout for word in ("session", "transaction", "statement"))
