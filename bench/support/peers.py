"""The servers that a benchmark compares: one PostgreSQL, pgbouncers before it if asked for, and the router over four."""
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "test"))

from harness import processes  # noqa: E402
from harness.cluster import PASSWORD, Endpoint, PostgresServer, Router  # noqa: E402
from harness.processes import Process, descendants, wait_until  # noqa: E402

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Bouncer(Process):
    """pgbouncer before one server."""

    def __init__(self, server, mode, name="pgbouncer"):
        self.directory = processes.scratch_directory(name)
        processes.give_to_account(self.directory)
        super().__init__(f"{name}-{mode}", self.directory / "pgbouncer.log")
        self.endpoint = Endpoint("127.0.0.1", processes.free_port())
        target = server.endpoint
        users = self.directory / "users.txt"
        users.write_text(f'"postgres" "{PASSWORD}"\n')
        self.file = self.directory / "pgbouncer.ini"
        self.file.write_text(f"""[databases]
* = host={target.host} port={target.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.endpoint.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = {mode}
default_pool_size = 20
max_client_conn = 6000
log_connections = 0
log_disconnections = 0
ignore_startup_parameters = extra_float_digits
""")
        for path in (users, self.file):
            processes.give_to_account(path)

    def start(self):
        self.spawn(processes.as_account(["/usr/sbin/pgbouncer", "-q", self.file]))
        wait_until(lambda: self.require_running() and self.endpoint.accepts(), f"{self.name} to accept connections")
        return self

    def stop(self, number=15, timeout_s=10):
        return super().stop(number, timeout_s)


class Peers:
    """All of them, started together and stopped together."""

    def __init__(self, groups=4, poolers=("transaction", "session"), fsync=False):
        """`fsync`: commits are durable, as in production; else their cost is CPU alone."""
        settings = {"shared_buffers": "256MB", "max_wal_size": "8GB", "autovacuum": "off", "checkpoint_timeout": "1h",
                    "fsync": "on" if fsync else "off"}
        self.direct = PostgresServer("direct", settings)
        self.groups = [PostgresServer(f"g{number}", settings) for number in range(1, groups + 1)]
        self.started = []
        for server in [self.direct, *self.groups]:
            self.started.append(server.start())
        self.bouncers = {}
        for mode in poolers:
            self.bouncers[mode] = Bouncer(self.direct, mode).start()
            self.started.append(self.bouncers[mode])
        self.router = Router(self.groups, settings={"log": {"level": "warning"}}).start()
        self.started.append(self.router)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            try:
                process.stop()
            except RuntimeError as error:
                print(error, file=sys.stderr)


def family(process):
    """The process and those below it that run the same program: a router may have helpers."""
    name = pathlib.Path(f"/proc/{process.pid}/comm").read_text()
    found = [process.pid]
    for pid in descendants(process.pid):
        try:
            if pathlib.Path(f"/proc/{pid}/comm").read_text() == name:
                found.append(pid)
        except OSError:
            continue
    return found


def cpu_seconds(process):
    """User and system time of a server so far."""
    total = 0
    for pid in family(process):
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except FileNotFoundError:
            continue  # a backend that has just ended
        total += int(fields[11]) + int(fields[12])
    return total * TICK_S


def resident_bytes(process):
    total = 0
    for pid in family(process):
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
    return total


def run_program(name, endpoint, *arguments):
    """A client program of PostgreSQL; its output."""
    done = subprocess.run([str(processes.postgres_program(name)), *map(str, arguments)], text=True,
                          env={**os.environ, **endpoint.environment()}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise RuntimeError(f"{name} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout
