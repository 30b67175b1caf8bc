"""Starting and stopping servers for tests: one place that knows accounts, ports, logs and how to end a process tree."""
import atexit
import glob
import itertools
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("PGMOSAIC_BUILD", ROOT / "build" / "release"))
PATIENCE = float(os.environ.get("PGMOSAIC_TEST_PATIENCE", "1"))  # > 1 stretches timeouts, for sanitizer builds
PORTS = 10000, 15400  # below those of `pgmosaic dev` (15432 …) and of outgoing connections (32768 …)
PORTS_OF_A_PROCESS = 200

_live = []  # every Process that was started and not stopped


def account():
    """The unprivileged account that runs PostgreSQL when the tests run as root; None: the current one."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
            return name
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL does not run as root, and there is no account postgres or nobody")


def as_account(command):
    """`command` run as that account; it gets SIGINT if the process that started it dies."""
    prefix = ["setpriv", "--pdeathsig", "INT"]
    if account():
        entry = pwd.getpwnam(account())
        prefix = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--pdeathsig", "INT"]
    return [*prefix, *map(str, command)]


def give_to_account(path):
    if account():
        entry = pwd.getpwnam(account())
        os.chown(path, entry.pw_uid, entry.pw_gid)


def scratch_directory(prefix):
    """A new directory that every account may enter; removed when the tests end. tools/run_tests.py says where."""
    path = pathlib.Path(tempfile.mkdtemp(prefix=f"pgmosaic-{prefix}-", dir=os.environ.get("PGMOSAIC_TEST_SCRATCH")))
    path.chmod(0o755)
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def postgres_program(name):
    """Full path of a program of PostgreSQL 15 or newer."""
    folders = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[-2]))
    folders += [path for path in os.environ.get("PATH", "").split(":")]
    for folder in folders:
        candidate = pathlib.Path(folder, name)
        if candidate.exists():
            return candidate
    raise RuntimeError(f"{name} is not installed")


def _block_of_ports():
    """Ports that are this process's until it ends: a name in the kernel's own space, which nobody else can bind, holds them."""
    for first in range(*PORTS, PORTS_OF_A_PROCESS):
        holder = socket.socket(socket.AF_UNIX)
        try:
            holder.bind(f"\0pgmosaic-test-ports-{first}")
        except OSError:
            holder.close()
            continue
        while True:
            yield from range(first, first + PORTS_OF_A_PROCESS)
    raise RuntimeError("other runs of the tests have all ports")


_ports = _block_of_ports()


def free_port():
    """A port that no other run of the tests is given, that the kernel gives to no connection, and that comes again late:
    a server that is down finds its own one free."""
    for port in itertools.islice(_ports, PORTS_OF_A_PROCESS):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("all ports of this run are in use")


def wait_until(condition, what, timeout_s=30, pause_s=0.05):
    """Polls `condition` until it is truthy and returns its value."""
    deadline = time.monotonic() + timeout_s * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s * PATIENCE:.0f} s for {what}")
        time.sleep(pause_s)


def process_table():
    """{pid: (parent, start time)} of all processes."""
    table = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                table[int(entry)] = (int(fields[1]), int(fields[19]))
    return table


def descendants(pid):
    """{pid: start time} of everything below `pid`."""
    table = process_table()
    found = {}
    frontier = [pid]
    while frontier:
        parent = frontier.pop()
        for child, (its_parent, started) in table.items():
            if its_parent == parent and child not in found:
                found[child] = started
                frontier.append(child)
    return found


def still_alive(processes):
    table = process_table()
    return {pid for pid, started in processes.items() if pid in table and table[pid][1] == started}


def kill_each(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


class Process:
    """One server process with its log; stop() ends it and everything below it, and complains if it had to be killed."""

    def __init__(self, name, log):
        self.name = name
        self.log = pathlib.Path(log)
        self.process = None

    def spawn(self, command, environment=None):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={**os.environ, **(environment or {})})
        if self not in _live:
            _live.append(self)

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process is not None and self.process.poll() is None

    def logs(self):
        return [self.log]

    def tail(self, lines=40):
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def require_running(self):
        if not self.running():
            status = self.process.poll() if self.process else None
            raise RuntimeError(f"{self.name} ended with status {status}:\n{self.tail()}")
        return True

    def kill(self, number=signal.SIGKILL):
        """Ends the process (not its children) the hard way and waits for it."""
        os.kill(self.pid, number)
        self.process.wait(timeout=30 * PATIENCE)

    def stop(self, number=signal.SIGTERM, timeout_s=60):
        """Asks the process to end. Raises if it had to be killed or left children behind (they are killed then)."""
        if self in _live:
            _live.remove(self)
        if self.process is None:
            return None
        family = descendants(self.pid)
        complaint = None
        if self.running():
            os.kill(self.pid, number)
            try:
                self.process.wait(timeout=timeout_s * PATIENCE)
            except subprocess.TimeoutExpired:
                complaint = f"{self.name} was still running {timeout_s * PATIENCE:.0f} s after signal {number}"
                self.process.kill()
                self.process.wait()
        left = still_alive(family)
        if left:
            complaint = complaint or f"{self.name} left {len(left)} processes behind"
            kill_each(left, signal.SIGQUIT)
            deadline = time.monotonic() + 5
            while still_alive(family) and time.monotonic() < deadline:
                time.sleep(0.05)
            kill_each(still_alive(family), signal.SIGKILL)
        if complaint:
            raise RuntimeError(f"{complaint}\n{self.tail()}")
        return self.process.returncode


def stop_all():
    """The last resort, when a fixture could not stop its server."""
    for process in list(reversed(_live)):
        try:
            process.stop(signal.SIGINT, timeout_s=5)
        except RuntimeError:
            pass


atexit.register(stop_all)


def live_logs():
    """(name, path) of each log of the servers that run now."""
    return [(process.name, path) for process in _live for path in process.logs()]
