"""Each refusal that src can give is in a list of them: refusals.txt, the golden plans, or the exceptions here with a reason."""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
LISTS = [ROOT / "test/e2e/refusals.txt", *sorted((ROOT / "test/plan").glob("*.plan"))]

# Calls that make a refusal, and which argument is its message. `make_error` counts with "0A000" only.
CALLS = {"make_error": 1, "unsupported": 0, "refused": 0, "refuse": 0, "forbid_several_groups": 1, "cannot_move": 0, "later": 0,
         "bad": 0, "fail": 0}
ONLY_IN = {"bad": "plan/distribution.cc", "fail": "plan/rules/aggregate.cc", "later": "sql/dialect.cc"}
REASONS_IN = ("plan/row_moves.cc", "plan/distribution.cc")  # functions that return a reason as text
REASON = re.compile(r'\b(?:return|obstacle =) "((?:\\.|[^"\\\n])*)"')
CALL = re.compile(rf"\b({'|'.join(CALLS)})\s*\(")
TEXT = re.compile(r'"((?:\\.|[^"\\\n])*)"')
RAISED = re.compile(r"feature_not_supported USING MESSAGE = [^'\"]*'([^'\"]*)'")

EXCEPTIONS = {}


def arguments(text, start):
    """What stands between the parenthesis at `start` and the one that closes it, divided at commas."""
    depth, begin, found, index = 0, start + 1, [], start
    while index < len(text):
        literal = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\])\'').match(text, index)
        if literal:
            index = literal.end()
            continue
        depth += (text[index] in "([{") - (text[index] in ")]}")
        if depth == 0 or (depth == 1 and text[index] == ","):
            found.append(text[begin:index])
            begin = index + 1
        if depth == 0:
            return found
        index += 1
    return found


def outside_parentheses(text):
    """The literals of an expression that are no arguments in it."""
    found, depth, index = [], 0, 0
    while index < len(text):
        literal = TEXT.match(text, index)
        if literal:
            if depth == 0:
                found.append(literal[1])
            index = literal.end()
            continue
        depth += (text[index] in "([{") - (text[index] in ")]}")
        index += 1
    return found


def refusals(name, text):
    """(line, longest constant part) of each refusal in a source."""
    def at(match, literals):
        plain = [re.sub(r"\\(.)", r"\1", literal) for literal in literals]
        return (text.count("\n", 0, match.start()) + 1, max(plain, key=len)) if plain else None

    found = []
    joined = re.sub(r'"\s*\n\s*"', "", text)  # literals of several lines
    for match in CALL.finditer(joined):
        kind = match[1]
        if ONLY_IN.get(kind, name) != name:
            continue
        given = arguments(joined, match.end() - 1)
        if len(given) <= CALLS[kind] or (kind == "make_error" and given[0].strip() != '"0A000"'):
            continue
        found.append(at(match, outside_parentheses(given[CALLS[kind]])))
    found += [at(match, [match[1]]) for match in RAISED.finditer(joined)]
    if name in REASONS_IN:
        found += [at(match, [match[1]]) for match in REASON.finditer(joined)]
    return [entry for entry in found if entry]


def sources():
    for path in sorted((ROOT / "src").rglob("*.cc")):
        if not re.search(r"_(test|pgtest|fuzz|benchmark)\.cc$", path.name):
            yield path.relative_to(ROOT / "src").as_posix(), path.read_text()


def all_refusals():
    return [(name, line, part) for name, text in sources() for line, part in refusals(name, text)]


def said(texts):
    """The answers in the lists, without the statements."""
    return "\n".join(line for text in texts for line in text.splitlines() if re.search(r"\b[0-9A-Z]{5}: |  several groups: ", line))


def test_parts_are_found():
    source = 'return refused("a key of " + name("x") +\n    " that is "\n    "long", "Do so.");\nmake_error("42601", "no");'
    assert refusals("any.cc", source) == [(1, " that is long")]
    assert refusals("any.cc", 'unsupported(status.error())') == []


def test_every_refusal_is_listed():
    known = said(path.read_text() for path in LISTS)
    missing = [f"src/{name}:{line}: {part}" for name, line, part in all_refusals()
               if part not in known and part not in EXCEPTIONS]
    assert not missing, "not in test/e2e/refusals.txt:\n" + "\n".join(missing)


def test_exceptions_are_needed():
    known, parts = said(path.read_text() for path in LISTS), {part for _, _, part in all_refusals()}
    assert [part for part in EXCEPTIONS if part not in parts or part in known] == []
