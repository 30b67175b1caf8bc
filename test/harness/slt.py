"""Runs a .slt file on the router and on one plain PostgreSQL and says where they differ.

A file is a list of blocks with an empty line between them. `#` begins a comment line. A block is a directive, lines of
SQL, and perhaps `----` with the rows that a person expects (values joined by `|`); without them the oracle alone says
what is right.

  statement ok              runs once on each side; results, tags, notices and column types must agree
  statement error 23505     fails on both sides with this SQLSTATE, the same message and position
  statement unsupported     the router refuses with 0A000 and a hint; the oracle does not see it
  statement maybe           the router either agrees with the oracle or refuses with 0A000 and a hint
  query                     like `statement ok` with rows; must have no side effect (may run several times)
  copy [error 22P02]        COPY … FROM STDIN; the lines behind `----` are the data
  load 500 t (a, b)         fills a table: the lines are expressions over i = 1..500, evaluated by the oracle
  connection NAME [k=v…]    goes on with another session (made at first use with these conninfo settings)
  disconnect NAME

Flags behind a directive: rowsort (ignore the order despite ORDER BY), loose (do not compare messages), nonotice,
simple (never the extended protocol), text (no binary results), router or oracle (that side only), untyped.
Lines `bind: ["1", null]` give parameters as JSON; `oracle: SQL` replaces what the oracle runs.

Rows are compared in order if ORDER BY stands at the top level, else as a multiset. Each file runs in two modes, each in a
new database: `simple` sends everything as simple Query, `extended` as Parse/Bind/Describe/Execute and queries once more
with binary results.
"""
import dataclasses
import json
import re
import shlex

from harness.dialect import strip_dialect
from harness.wire import BINARY, Session, Stalled, Strictness, all_differences, is_ordered, show_rows

FLAGS = {"rowsort", "loose", "nonotice", "simple", "text", "router", "oracle", "untyped"}
MODES = ("simple", "extended")


@dataclasses.dataclass
class Block:
    kind: str
    line: int
    words: list
    flags: set = dataclasses.field(default_factory=set)
    sql: str = ""
    oracle_sql: str = ""
    bind: list = None
    expected: list = None


class FormatError(Exception):
    pass


def parse(text, name="file"):
    blocks = []
    lines = text.splitlines()
    index = 0
    while index < len(lines):
        if not lines[index].strip() or lines[index].startswith("#"):
            index += 1
            continue
        start = index
        while index < len(lines) and lines[index].strip():
            index += 1
        blocks.append(parse_block(lines[start:index], start + 1, name))
    return blocks


def parse_block(lines, number, name):
    words = shlex.split(lines[0]) if lines[0].startswith("connection ") else lines[0].split()
    kind = words[0]
    if kind not in ("statement", "query", "copy", "load", "connection", "disconnect"):
        raise FormatError(f"{name}:{number}: no such directive: {kind}")
    block = Block(kind, number, [word for word in words[1:] if word not in FLAGS or kind == "connection"])
    if kind != "connection":
        block.flags = set(words[1:]) & FLAGS
    sql, oracle_sql, data = [], [], None
    for line in lines[1:]:
        if data is not None:
            data.append(line)
        elif line == "----":
            data = []
        elif line.startswith("oracle:"):
            oracle_sql.append(line[len("oracle:"):].strip())
        elif line.startswith("bind:"):
            block.bind = json.loads(line[len("bind:"):])
        else:
            sql.append(line)
    block.sql = "\n".join(sql)
    block.oracle_sql = "\n".join(oracle_sql) or strip_dialect(block.sql)
    block.expected = data
    if kind == "statement" and (not block.words or block.words[0] not in ("ok", "error", "unsupported", "maybe")):
        raise FormatError(f"{name}:{number}: statement ok, error SQLSTATE, unsupported or maybe?")
    return block


class Runner:
    """One file in one mode. `self_check`: the router's side is a plain PostgreSQL too."""

    def __init__(self, router, oracle, mode, self_check=False):
        self.endpoints = {"router": router, "oracle": oracle}
        self.mode = mode
        self.self_check = self_check
        self.sessions = {}  # (side, connection name) -> Session
        self.options = {"main": {}}
        self.current = "main"
        self.problems = []
        self.refused = []  # statements of `maybe` blocks that the router refused

    def session(self, side):
        key = (side, self.current)
        if key not in self.sessions:
            options = dict(self.options.get(self.current, {}))
            endpoint = self.endpoints[side]
            self.sessions[key] = Session(endpoint, **options)
        return self.sessions[key]

    def close(self):
        for session in self.sessions.values():
            session.close()
        self.sessions.clear()

    def run(self, blocks, most_problems=25):
        """Runs the blocks in order; returns what went wrong. The sessions are closed in any case."""
        try:
            self.run_blocks(blocks, most_problems)
        finally:
            self.close()
        return self.problems

    def run_blocks(self, blocks, most_problems):
        for block in blocks:
            try:
                getattr(self, f"run_{block.kind}")(block)
            except (Stalled, ConnectionError) as error:
                self.problem(block, str(error))
                self.close()
            if len(self.problems) >= most_problems:
                self.problems.append("… stopped here")
                return

    def problem(self, block, text):
        self.problems.append(f"line {block.line}: {block.sql.strip()[:300]}\n    {text}")

    def execute(self, side, block, sql, result_format=0, data=None):
        session = self.session(side)
        if block.bind is not None:
            return session.extended(sql, values=block.bind, result_format=result_format, copy_data=data)
        if self.mode == "simple" or "simple" in block.flags:
            return session.simple(sql, copy_data=data)
        return session.extended(sql, result_format=result_format, copy_data=data)

    def sides(self, block):
        wanted = [side for side in ("router", "oracle") if side in block.flags] or ["router", "oracle"]
        return [] if self.self_check and wanted == ["router"] else wanted

    def both(self, block, result_format=0, data=None):
        """{side: answers} of the sides that the block is for."""
        answers = {}
        for side in self.sides(block):
            sql = block.oracle_sql if side == "oracle" or self.self_check else block.sql
            answers[side] = self.execute(side, block, sql, result_format, data)
        return answers

    def strictness(self, block):
        same_text = block.sql == block.oracle_sql
        ordered = is_ordered(block.sql) and "rowsort" not in block.flags
        return Strictness(ordered=ordered, message="loose" not in block.flags, types="untyped" not in block.flags,
                          position=same_text and "loose" not in block.flags, notices="nonotice" not in block.flags)

    def compare(self, block, answers):
        if len(answers) == 2:
            for line in all_differences(answers["router"], answers["oracle"], self.strictness(block)):
                self.problem(block, line)
            states = {side: self.session(side).transaction for side in answers}
            if states["router"] != states["oracle"]:
                self.problem(block, f"transaction state {states['router']}, the oracle's {states['oracle']}")

    def run_statement(self, block):
        outcome = block.words[0]
        if outcome == "unsupported":
            self.run_unsupported(block)
            return
        if outcome == "maybe":
            self.run_maybe(block)
            return
        answers = self.both(block)
        self.compare(block, answers)
        self.check_outcome(block, answers, block.words[1] if outcome == "error" else "")
        self.check_expected(block, answers)

    def check_outcome(self, block, answers, wanted):
        for side, results in answers.items():
            found = next((answer for answer in results if answer.sqlstate), None)
            if (found.sqlstate if found else "") != wanted:
                said = found.brief() if found else "no error"
                self.problem(block, f"{side}: {said}, the file says {wanted or 'ok'}")

    def run_unsupported(self, block):
        if self.self_check:
            return
        before = self.session("router").transaction
        self.check_refusal(block, self.execute("router", block, block.sql))
        after = self.session("router").transaction
        if before == "IDLE" and after != "IDLE":
            self.problem(block, f"router: transaction state {after} after the refusal")

    def check_refusal(self, block, answers):
        error = next((answer for answer in answers if answer.sqlstate), None)
        if error is None or error.sqlstate != "0A000":
            self.problem(block, f"router: {error.brief() if error else 'no error'}, must be 0A000")
        elif not error.hint:
            self.problem(block, f"router: no hint beside '{error.message}'")

    def run_maybe(self, block):
        ours = self.execute("router", block, block.oracle_sql if self.self_check else block.sql)
        if any(answer.sqlstate == "0A000" and answer.hint for answer in ours):
            self.refused.append(block.sql)
            return
        self.compare(block, {"router": ours, "oracle": self.execute("oracle", block, block.oracle_sql)})

    def run_query(self, block):
        formats = [0] if self.mode == "simple" or {"simple", "text"} & block.flags else [0, BINARY]
        for result_format in formats:
            answers = self.both(block, result_format)
            self.compare(block, answers)
            self.check_outcome(block, answers, "")
            if result_format == 0:
                self.check_expected(block, answers)

    def check_expected(self, block, answers):
        if block.expected is None:
            return
        for side, results in answers.items():
            rows = [row for answer in results for row in answer.rows]
            lines = [show_rows([row]) for row in rows]
            expected = list(block.expected)
            if not is_ordered(block.sql):
                lines, expected = sorted(lines), sorted(expected)
            if not matches(lines, expected):
                self.problem(block, f"{side}: {lines}, the file says {expected}")

    def run_copy(self, block):
        wanted = block.words[1] if block.words[:1] == ["error"] else ""
        answers = self.both(block, data="".join(f"{line}\n" for line in block.expected or []).encode())
        self.compare(block, answers)
        self.check_outcome(block, answers, wanted)

    def run_load(self, block):
        match = re.fullmatch(r"(\d+) ([\w.\"]+) \((.*)\)", " ".join(block.words))
        if not match:
            raise FormatError(f"line {block.line}: load COUNT table (columns)")
        items = ", ".join(f"quote_nullable(({item})::text)" for item in split_expressions(block.sql))
        made = self.session("oracle").simple(f"SELECT concat_ws(', ', {items}) FROM generate_series(1, {match[1]}) i")[0]
        if made.sqlstate:
            self.problem(block, f"oracle: {made.brief()}")
            return
        rows = [f"({row[0].decode()})" for row in made.rows]
        for start in range(0, len(rows), 250):
            sql = f"INSERT INTO {match[2]} ({match[3]}) VALUES {', '.join(rows[start:start + 250])}"
            answers = {side: self.session(side).simple(sql) for side in ("router", "oracle")}
            self.compare(block, answers)
            self.check_outcome(block, answers, "")

    def run_connection(self, block):
        self.current = block.words[0]
        if len(block.words) > 1:
            self.options[self.current] = dict(word.split("=", 1) for word in block.words[1:])

    def run_disconnect(self, block):
        for side in ("router", "oracle"):
            session = self.sessions.pop((side, block.words[0]), None)
            if session:
                session.close()
        self.current = "main"


def split_expressions(text):
    """The expressions of a load block: commas at the top level divide them."""
    items, depth, quoted, current = [], 0, False, ""
    for char in text.replace("\n", " "):
        if char == "'":
            quoted = not quoted
        if not quoted:
            depth += (char in "([") - (char in ")]")
        if char == "," and depth == 0 and not quoted:
            items.append(current.strip())
            current = ""
        else:
            current += char
    return [*items, current.strip()]


def matches(lines, expected):
    """Each expected line is the row itself, or `~` and a regular expression."""
    if len(lines) != len(expected):
        return False
    return all(re.search(want[1:].strip(), line) if want.startswith("~") else line == want
               for line, want in zip(lines, expected))
