#!/usr/bin/env python3
"""Checks the #include lines of src/ against the arrows of CONTRIBUTING.md.

A room (a folder of src/) may include itself, the rooms its arrow names, and whatever those may include. The same arrows
stand in CMakeLists.txt as `room(NAME DEPENDS ...)`; both must say the same. Some libraries belong to one room.
"""
import argparse
import pathlib
import re
import sys

ARROWS = {
    "base": [],
    "net": ["base"],
    "pg": ["base"],
    "sql": ["base"],
    "catalog": ["pg"],
    "plan": ["sql", "catalog"],
    "pool": ["net", "pg"],
    "meta": ["catalog", "net"],
    "exec": ["plan", "pool", "meta"],
    "cluster": ["catalog"],
    "agent": ["cluster", "pool"],
    "control": ["cluster", "exec", "agent"],
    "router": ["exec", "control"],
    "cli": ["router"],
}

# Headers of libraries that only some rooms may see: pattern -> rooms.
LIBRARIES = [
    (re.compile(r"^(boost/asio|asio)[/.]"), {"net"}),
    (re.compile(r"^(pg_query|protobuf/pg_query|protobuf-c)"), {"sql"}),
    (re.compile(r"^sqlite3\.h$"), {"meta"}),
    (re.compile(r"^spdlog/"), {"base"}),
    (re.compile(r"^openssl/"), {"net", "pg"}),
    (re.compile(r"^toml\+\+"), {"base"}),
]

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
ROOM = re.compile(r"^\s*room\((\w+)([^)]*)\)", re.MULTILINE)
TEST_FILE = re.compile(r"_(test|pgtest|benchmark|fuzz)\.cc$")


def reachable(arrows):
    """room -> all rooms it may include, itself among them. REQUIRES: no cycle (checked by cycles())."""
    closed = {}

    def close(room):
        if room not in closed:
            closed[room] = {room}.union(*(close(below) for below in arrows[room]))
        return closed[room]

    for room in arrows:
        close(room)
    return closed


def cmake_arrows(text):
    """The arrows that CMakeLists.txt states."""
    arrows = {}
    for name, rest in ROOM.findall(text):
        words = rest.split()
        depends = []
        if "DEPENDS" in words:
            for word in words[words.index("DEPENDS") + 1:]:
                if word == "LINK":
                    break
                depends.append(word)
        arrows[name] = depends
    return arrows


def check_cmake(root, arrows):
    found = cmake_arrows((root / "CMakeLists.txt").read_text())
    for room in sorted(set(arrows) | set(found)):
        if room not in found:
            yield f"CMakeLists.txt: room {room} is missing"
        elif room not in arrows:
            yield f"CMakeLists.txt: room {room} has no arrow in tools/layers.py"
        elif sorted(found[room]) != sorted(arrows[room]):
            yield (f"CMakeLists.txt: room {room} depends on {' '.join(found[room]) or 'nothing'}, "
                   f"its arrow says {' '.join(arrows[room]) or 'nothing'}")


def check_include(room, allowed, arrows, is_test, quoted, header):
    """The complaint about one #include, or None."""
    for pattern, rooms in LIBRARIES:
        if pattern.match(header) and room not in rooms and not is_test:
            return f"<{header}> belongs to {' and '.join(sorted(rooms))}"
    if not quoted:
        return None
    target = header.split("/")[0]
    if "/" not in header:
        return f'"{header}": write the path from src/, as "{room}/{header}"'
    if target in arrows:
        return None if target in allowed else f'"{header}": {room} may not include {target}'
    if is_test and target == "harness":
        return None
    return f'"{header}": {target} is no room of src/'


def check_sources(root, arrows):
    closed = reachable(arrows)
    source = root / "src"
    for path in sorted(source.rglob("*")):
        if path.suffix not in (".h", ".cc"):
            continue
        parts = path.relative_to(source).parts
        room = parts[0]
        if len(parts) < 2 or room not in arrows:
            yield f"{path.relative_to(root)}: not in a room of src/"
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            complaint = check_include(room, closed[room], arrows, bool(TEST_FILE.search(path.name)), match[1] == '"',
                                      match[2])
            if complaint:
                yield f"{path.relative_to(root)}:{number}: {complaint}"


def check(root, arrows=None):
    arrows = ARROWS if arrows is None else arrows
    return [*check_cmake(root, arrows), *check_sources(root, arrows)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    complaints = check(parser.parse_args().root)
    for complaint in complaints:
        print(complaint)
    print(f"layers: {len(complaints)} complaint(s)", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
