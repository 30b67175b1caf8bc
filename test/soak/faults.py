"""Every step of a commit over several groups × every fault (test/e2e/test_commit_faults.py), again and again.

    ./x soak faults [--rounds N]
"""
import argparse
import os
import pathlib
import subprocess
import sys

TEST = pathlib.Path(__file__).resolve().parents[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    for _ in range(arguments.rounds):
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "e2e/test_commit_faults.py"],
                              cwd=TEST, env={**os.environ, "PGMOSAIC_ALL_FAULTS": "1"}, check=False)
        if done.returncode:
            sys.exit(done.returncode)


if __name__ == "__main__":
    main()
