#!/usr/bin/env python3
"""A million schedules of commits over several groups, recovery and trimming in memory: `./x soak simulation [--schedules N]`.

Each schedule is a seed (src/control/simulation/schedule.h); they start anew behind `--first` (default: at random, so that no two runs
are alike). One that violates an invariant is printed, with the seed that repeats it.
"""
import argparse
import os
import pathlib
import random
import subprocess
import sys


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedules", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=random.randrange(1 << 40))
    parser.add_argument("--seed", type=int, help="this one alone, with all that happens in it")
    options = parser.parse_args()
    chosen = {"PGMOSAIC_SCHEDULES": str(options.schedules), "PGMOSAIC_FIRST_SEED": str(options.first)}
    if options.seed is not None:
        chosen = {"PGMOSAIC_SEED": str(options.seed)}
    program = pathlib.Path(os.environ["PGMOSAIC_BUILD"], "control_test")
    command = [program, "--gtest_filter=CommitSimulation.Schedules", "--gtest_brief=1"]
    return subprocess.run(command, env={**os.environ, **chosen}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
