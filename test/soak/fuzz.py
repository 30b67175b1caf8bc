#!/usr/bin/env python3
"""Runs every fuzzer of build/fuzz for a while: `./x soak fuzz [--seconds 300] [NAME…]`.

Inputs that taught a fuzzer something are kept in build/fuzz-corpus; one that breaks it stays there and is named.
"""
import argparse
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="fuzzers; default: all")
    parser.add_argument("--seconds", type=int, default=300, help="for each")
    options = parser.parse_args()
    fuzzers = [path for path in sorted((ROOT / "build/fuzz").glob("*_fuzz")) if not options.names or path.name in options.names]
    if not fuzzers:
        print("no fuzzer is built", file=sys.stderr)
        return 1
    broken = []
    for fuzzer in fuzzers:
        corpus = ROOT / "build/fuzz-corpus" / fuzzer.name
        corpus.mkdir(parents=True, exist_ok=True)
        seeds = ROOT / "test/fuzz" / fuzzer.name
        folders = [str(corpus)] + ([str(seeds)] if seeds.is_dir() else [])
        done = subprocess.run([fuzzer, f"-max_total_time={options.seconds}", "-print_final_stats=1", "-timeout=10",
                               f"-artifact_prefix={corpus}/broken-", *folders])
        if done.returncode != 0:
            broken.append(fuzzer.name)
    print(f"soak fuzz: {len(fuzzers)} fuzzers, broken: {' '.join(broken) or 'none'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
