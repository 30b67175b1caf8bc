"""One run of pgbench, with what the servers' processes needed for it."""
import re

from support.peers import cpu_seconds, run_program

CLIENTS = 16


def measured(endpoint, script, seconds, mode="simple", clients=CLIENTS, processes=()):
    """(tps, microseconds of the processes' CPU per transaction). Raises where a transaction failed."""
    before = sum(map(cpu_seconds, processes))
    said = run_program("pgbench", endpoint, "-n", "-M", mode, "-c", clients, "-j", 2, "-T", seconds, "-f", script)
    used = sum(map(cpu_seconds, processes)) - before
    if not re.search(r"number of failed transactions: 0 ", said):
        raise RuntimeError(said)
    count = int(re.search(r"transactions actually processed: (\d+)", said)[1])
    return float(re.search(r"tps = ([\d.]+)", said)[1]), used / count * 1e6
