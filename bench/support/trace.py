"""Where the time of a statement goes: what each server behind the router was asked meanwhile, and how long it took."""
import re
import time

from support.figures import say

LINE = re.compile(r"^\S+ (?P<at>\S+) \S+ \[(?P<pid>\d+)\] .*?LOG:  duration: (?P<ms>[\d.]+) ms  (?P<what>.*)$")
SHOWN = 110  # characters of a statement


def set_logging(servers, value):
    for server in servers:
        for change in (f"ALTER SYSTEM {value}", "SELECT pg_reload_conf()"):
            server.endpoint.run(change)
    time.sleep(0.5)  # the servers' processes look at the files when they are asked the next time


def trace(peers, sql, repeats=5):
    """Runs the statements `sql` (with the number of the run in place of {n}) and tells of the last run."""
    set_logging(peers.groups, "SET log_min_duration_statement = 0")
    try:
        with peers.router.endpoint.connect() as connection:
            for number in range(repeats):
                sizes = [server.log.stat().st_size for server in peers.groups]
                begun = time.monotonic()
                connection.execute(sql.replace("{n}", str(number)))
                taken = (time.monotonic() - begun) * 1e3
    finally:
        set_logging(peers.groups, "RESET log_min_duration_statement")
    say(f"trace, {taken:.1f} ms: {sql}")
    for server, size in zip(peers.groups, sizes):
        with open(server.log, "rb") as log:
            log.seek(size)
            text = log.read().decode(errors="replace").replace("\n\t", " ")
        lines = [LINE.match(line) for line in text.splitlines()]
        found = [line for line in lines if line and "pg_reload_conf" not in line["what"] and "ALTER SYSTEM" not in line["what"]]
        say(f"  {server.name}: {sum(float(line['ms']) for line in found):.1f} ms in {len(found)} statements; at their end:")
        for line in found:
            if float(line["ms"]) >= 0.3:
                what = " ".join(line["what"].split())[:SHOWN]
                say(f"    {line['at']} [{line['pid']}] {float(line['ms']):7.1f} ms  {what}")
