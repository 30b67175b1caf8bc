"""Each refusal that src can give is in a list of them: refusals.txt, the golden plans, or the exceptions here with a reason."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "test"))
from harness import refusals as parsed  # noqa: E402

LISTS = [ROOT / "test/e2e/refusals.txt", *sorted((ROOT / "test/plan").glob("*.plan"))]

# Calls that make a refusal, and which argument is its message. `make_error` counts with "0A000" only.
CALLS = {"make_error": 1, "unsupported": 0, "refused": 0, "refuse": 0, "forbid_several_groups": 1, "cannot_move": 0, "later": 0,
         "bad": 0, "fail": 0}
ONLY_IN = {"bad": "plan/distribution.cc", "fail": "plan/rules/aggregate.cc", "later": "sql/dialect.cc"}
AFTER_A_COLON = ("forbid_several_groups", "bad", "fail", "cannot_move")
REASONS_IN = ("plan/row_moves.cc", "plan/distribution.cc")  # functions that return a reason as text
REASON = re.compile(r'\b(?:return|obstacle =) "((?:\\.|[^"\\\n])*)"')
CALL = re.compile(rf"\b({'|'.join(CALLS)})\s*\(")
TEXT = re.compile(r'"((?:\\.|[^"\\\n])*)"')
RAISED = re.compile(r"feature_not_supported USING MESSAGE = [^'\"]*'([^'\"]*)'")

EXCEPTIONS = {
    # PostgreSQL's own words, for what it refuses as well.
    "unsupported frontend protocol ": "PostgreSQL's",
    "SCRAM authorization identity is not supported": "PostgreSQL's",
    "client requires an unsupported SCRAM extension": "PostgreSQL's",
    "cannot PREPARE a transaction that has created a cursor WITH HOLD": "PostgreSQL's",
    'cannot drop partitioned index "': "PostgreSQL's",
    "ORDER BY beside DISTINCT": "PostgreSQL refuses the statement, and is asked first",
    "ORDER BY of a UNION": "likewise",
    "ORDER BY of a set operation": "likewise",
    "ORDER BY of something that is not exactly one column of the result": "likewise",
    "a column that is not known": "likewise",
    # Of transactions, and of settings within a string: test_untorn.py, old_strings.slt, test_encodings.py.
    "a SERIALIZABLE transaction cannot reach rows of several groups": "of a transaction",
    "transaction identifiers beyond ASCII under this client_encoding": "of another encoding",
    "backslashes behind a change of standard_conforming_strings in the same string": "of a string of statements",
    # Of a saga that runs: test_sagas.py.
    "PREPARE TRANSACTION of a transaction with steps of a saga": "of a saga",
    "sagas under SET SESSION AUTHORIZATION": "of a session",
    "a compensation of this kind": "of a saga",
    # Before there is a session, or in another than a client's own.
    "the certificate's signature algorithm has no hash for channel binding": "of a certificate",
    "replication connections go to a group's own PostgreSQL, not through the router": "of a login",
    "the admin database has no functions": "of the admin database's protocol",
    # Behind other refusals, or of servers that differ.
    " of temporary and other objects together": "of types, functions and the like: temporary_objects.slt",
    "a foreign key between sharded tables that does not list its columns": "where the referenced table is not known yet",
    "roles changed in a function, procedure or block in a way that fails elsewhere": "servers with other roles",
    '" in the transaction that has dropped one of this name': "test_a_role_made_again, roles.slt",
    # Of a router with other settings than the tests' cluster.
    "CREATE SCHEMA with objects in it where tables are sharded by default": "sharding.default_table_type",
    "transaction blocks are not allowed when pool.mode is statement": "pool.mode",
    # Of the extended protocol, which the file does not speak.
    "FETCH from a portal over several groups that was not executed yet": "a portal",
    "the shard of this row cannot be told from a binary parameter of this type": "a binary parameter",
    'a parameter for the distribution column "': "a parameter",
    # Too long to be read.
    "the statement is too complex to plan": "60 levels, or 300 sub-queries",
    # Of places that the file's cluster does not get to.
    "the router's internal database cannot be renamed": "internal.database is that of the tests' sessions",
    '" are on different groups': "of partitions that were placed before they were tables of a key",
    " in an object of the database": "begins with the relation's name",
    ": a DEFAULT partition beside fewer partitions than ": "begins with the key's name",
    '", a table of one group, to the partitions of ': "of a partition that stood alone before",
    # What no statement of PostgreSQL 15 is known to reach.
    ", with triggers that run SQL given as text": "it takes a publisher: test_subscriptions.py",
    "several statements where one is expected": "query strings are split before",
    "pgmosaic's own relations in this statement": "SELECT, INSERT, UPDATE and DELETE are known",
    "DROP of this kind of object is not supported": "of a newer PostgreSQL",
    "RENAME of this kind of object is not supported": "of a newer PostgreSQL",
    "a rule that cannot be read: ": "of a newer PostgreSQL",
    "this form of CREATE TABLE": "all forms are known",
    "a data-modifying WITH over several groups": "forbidden before by its statement",
    "rows that every group has beside a sub-query over sharded tables": "the sub-query is refused before",
    "a statement that cannot be rewritten": "the deparser knows all statements",
    "the statement cannot be rewritten for several groups": "likewise",
    "the statement cannot be rewritten exactly for several groups": "likewise",
    "this use of pgmosaic's own relations": "the deparser's text can be parsed",
    "the key's value cannot be hashed": "its type was looked at before",
    "CREATE TABLE ... AS cannot fill this table": "the table was just made",
    "EXPLAIN of this statement is not supported yet": "the parser knows no EXPLAIN of others",
    "an index in a tablespace, with this condition": "PostgreSQL writes the condition last",
    '" whose sequence is changed by the same statement': "PostgreSQL does not know the column yet",
}


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
        literals = outside_parentheses(given[CALLS[kind]])
        if kind in AFTER_A_COLON and len(literals) == 1 and len(literals[0]) < 19:  # "MERGE" alone says little
            literals = [": " + literals[0]]
        found.append(at(match, literals))
    found += [at(match, match[1].split("%s")) for match in RAISED.finditer(joined)]
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


def test_the_file_is_as_it_would_be_written():
    text = LISTS[0].read_text()
    assert parsed.write(*parsed.parse(text)) == text


def test_every_refusal_is_listed():
    known = said(path.read_text() for path in LISTS)
    missing = [f"src/{name}:{line}: {part}" for name, line, part in all_refusals()
               if part not in known and part not in EXCEPTIONS]
    assert not missing, "not in test/e2e/refusals.txt:\n" + "\n".join(missing)


def test_exceptions_are_needed():
    known, parts = said(path.read_text() for path in LISTS), {part for _, _, part in all_refusals()}
    assert [part for part in EXCEPTIONS if part not in parts or part in known] == []
