"""A bounded load of pgbench clients, and what it says of each transaction: when it was at work and whether it failed."""
import dataclasses
import os
import subprocess

from support.peers import processes


@dataclasses.dataclass(frozen=True)
class Done:
    """One transaction of a client, by the clock."""
    script: int
    begun: float
    ended: float


class Load:
    """pgbench processes, one for each of `modes`, that keep to a rate for some seconds; `wait` says what they did."""

    def __init__(self, endpoint, scripts, clients, rate, seconds, modes=("simple", "prepared")):
        self.directory = processes.scratch_directory("load")
        self.modes = modes
        self.running = []
        files = []
        for number, (weight, script) in enumerate(scripts):
            file = self.directory / f"{number}.sql"
            file.write_text(script + "\n")
            files += ["-f", f"{file}@{weight}"]
        for mode in modes:
            command = [processes.postgres_program("pgbench"), "-n", "-M", mode, "-c", clients // len(modes), "-j", 1, "-T", seconds,
                       "-R", rate // len(modes), "--log", f"--log-prefix={self.directory / mode}", *files]
            self.running.append(subprocess.Popen(list(map(str, command)), env={**os.environ, **endpoint.environment()}, text=True,
                                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.kill()
            process.wait()

    def has_begun(self):
        """Every client is at work; False as well if pgbench gave up, which `wait` tells."""
        return all(any(self.directory.glob(f"{mode}.*")) for mode in self.modes)

    def wait(self):
        """([Done], [what failed]) after the end of the load. pgbench ends a client at its first error."""
        done, failed = [], []
        for process in self.running:
            said, _ = process.communicate()
            failed += [line for line in said.splitlines() if "error:" in line]
            if process.returncode != 0 and not failed:
                failed.append(said)
        for path in self.directory.glob("*.*"):
            if path.suffix == ".sql":
                continue
            for line in path.read_text().splitlines():
                _, _, taken, script, seconds, micros, lag = line.split()
                if taken == "failed":
                    failed.append(line)
                    continue
                ended = int(seconds) + int(micros) / 1e6
                done.append(Done(int(script), ended - (int(taken) - int(lag)) / 1e6, ended))  # the lag is pgbench's own
        return sorted(done, key=lambda each: each.begun), failed
