#!/usr/bin/env python3
"""Checks the sizes and manners of the sources; the list of exceptions only shrinks.

  file      at most 600 lines (every source and script)
  header    at most 250 lines (.h)
  function  at most 70 lines (C++, from the first line of the signature to its closing brace)

tools/tidy_exceptions.txt lists what is larger, with its size. It is an error if such a thing has grown beyond its
entry, or if the entry is no longer needed. `--lower` writes smaller numbers into the list and removes what is no longer
needed; nothing adds to it but a person who can say why.
"""
import argparse
import pathlib
import re
import sys

LIMITS = {"file": 600, "header": 250, "function": 70}
FOLDERS = ["src", "test", "tools", "bench", "cmake", "deploy", "web"]
SUFFIXES = {".h", ".cc", ".py", ".sh", ".js", ".mjs", ".java", ".cmake", ".css"}
LONGEST_LINE = 140  # clang-format aims at 120; a table or a message may stand out a little

MANNERS = [
    (re.compile(r"\t"), "a tab"),
    # The compiler makes wrong code of these.
    (re.compile(r"(&&|\|\||\?|\w :)\s*[!(]*co_" r"await\b"), "a co" "_await inside &&, || or ?: (bind it to a name first)"),
    (re.compile(r"[ \r]$"), "a blank at the end of the line"),
    (re.compile(r"\bGTEST_" r"SKIP\b|\bTEST(_F|_P)?\([^)]*\bDISABLED" r"_"), "a test that does not run"),
]

TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/'
    r'|R"(?P<tag>[^()\\\s]{0,16})\(.*?\)(?P=tag)"'
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9A-Za-z_])'(?:\\.|[^'\\\n])+'",
    re.DOTALL)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n\\]|\\\n|\\.)*", re.MULTILINE)
CONTAINER = re.compile(r"\b(namespace|class|struct|union|enum)\b|\bextern\s*$")
LABELS = re.compile(r"\A(?:\s*(?:public|private|protected)\s*:)+")
NAME = re.compile(r"([A-Za-z_~][\w:~]*|operator\s*\S+?)\s*\(")


def blank(text):
    """The text with comments, literals and preprocessor lines replaced by blanks, line numbers kept."""
    def spaces(match):
        return re.sub(r"[^\n]", " ", match[0])
    return DIRECTIVE.sub(spaces, TOKEN.sub(spaces, text))


def is_container(head):
    """Whether a brace behind `head` opens a scope that holds functions rather than a body."""
    match = CONTAINER.search(head)
    return bool(match) and "(" not in head[match.start():].replace("alignas(", "")


def function_name(head):
    match = NAME.search(head)
    if not match:
        return "?"
    if re.fullmatch(r"TEST(_F|_P)?|BENCHMARK\w*", match[1]):
        arguments = head[match.end():].split(")")[0]
        return ".".join(part.strip() for part in arguments.split(","))
    return match[1]


def functions(text):
    """(name, first line, lines) of each function body of a C++ source."""
    text = blank(text)
    found = []
    stack = []  # of "container", "body" or the start of a function
    head_start = 0
    line = 1
    depth_of_parentheses = 0
    for index, char in enumerate(text):
        if char == "\n":
            line += 1
        elif char == "(":
            depth_of_parentheses += 1
        elif char == ")":
            depth_of_parentheses -= 1
        elif char == "{":
            head = text[head_start:index]
            inside_function = any(entry != "container" for entry in stack)
            if inside_function or depth_of_parentheses > 0:
                stack.append("body")
            elif re.search(r"[\w>]$", head) and "(" in head:  # a member's initialiser, `: size_{0} {`
                stack.append("initialiser")
                continue
            elif is_container(head):
                stack.append("container")
            elif "(" in head:
                signature = LABELS.sub("", head).lstrip()
                stack.append((function_name(signature), line - signature.count("\n")))
            else:
                stack.append("body")
            head_start = index + 1
        elif char == "}":
            if stack:
                entry = stack.pop()
                if entry == "initialiser":
                    continue
                if isinstance(entry, tuple):
                    found.append((entry[0], entry[1], line - entry[1] + 1))
            head_start = index + 1
        elif char == ";" and depth_of_parentheses == 0:
            head_start = index + 1
    return found


def sources(root):
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.suffix in SUFFIXES and "node_modules" not in path.parts:
                yield path
    if (root / "x").exists():
        yield root / "x"


def measure(root):
    """{(kind, name): lines} of everything over its limit."""
    large = {}
    for path in sources(root):
        name = path.relative_to(root).as_posix()
        text = path.read_text(errors="replace")
        lines = text.count("\n")
        kind = "header" if path.suffix == ".h" else "file"
        if lines > LIMITS[kind]:
            large[kind, name] = lines
        if path.suffix in (".h", ".cc"):
            for function, _, length in functions(text):
                if length > LIMITS["function"]:
                    key = ("function", f"{name}:{function}")
                    large[key] = max(length, large.get(key, 0))
    return large


def manners(root):
    for path in sources(root):
        name = path.relative_to(root).as_posix()
        text = path.read_text(errors="replace")
        if text and not text.endswith("\n"):
            yield f"{name}: no newline at the end"
        if path.suffix == ".h" and "#pragma once" not in text:
            yield f"{name}: no #pragma once"
        for number, line in enumerate(text.splitlines(), 1):
            if len(line) > LONGEST_LINE:
                yield f"{name}:{number}: {len(line)} columns, {LONGEST_LINE} allowed"
            for pattern, what in MANNERS:
                if pattern.search(line):
                    yield f"{name}:{number}: {what}"


def read_exceptions(path):
    listed = {}
    if path.exists():
        for line in path.read_text().splitlines():
            if line.strip() and not line.startswith("#"):
                kind, name, lines = line.split()
                listed[kind, name] = int(lines)
    return listed


def compare(large, listed):
    """Complaints about what is larger than the list allows, and about entries that are no longer needed."""
    for key, lines in sorted(large.items()):
        kind, name = key
        if key not in listed:
            yield f"{name}: {kind} of {lines} lines, {LIMITS[kind]} allowed"
        elif lines > listed[key]:
            yield f"{name}: {kind} grew to {lines} lines, its exception says {listed[key]}"
    for kind, name in sorted(set(listed) - set(large)):
        yield f"tools/tidy_exceptions.txt: {kind} {name} is no longer needed; run tools/tidy.py --lower"


def lower(path, large):
    kept = []
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            kind, name, lines = line.split()
            if (kind, name) not in large:
                continue
            line = f"{kind} {name} {min(int(lines), large[kind, name])}"
        kept.append(line)
    path.write_text("\n".join(kept) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("--lower", action="store_true", help="lower and remove entries of the list of exceptions")
    arguments = parser.parse_args()
    exceptions = arguments.root / "tools" / "tidy_exceptions.txt"
    large = measure(arguments.root)
    if arguments.lower:
        lower(exceptions, large)
    complaints = [*compare(large, read_exceptions(exceptions)), *manners(arguments.root)]
    for complaint in complaints:
        print(complaint)
    print(f"tidy: {len(complaints)} complaint(s)", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
