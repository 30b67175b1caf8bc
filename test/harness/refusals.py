"""Reads and writes e2e/refusals.txt: statements that the router refuses, and what it says.

`== title` begins a section, which finds an empty schema; `#` begins a comment line. Blocks have an empty line between
them. A block with `----` is one statement and the answer to it: SQLSTATE and message, then `detail:` and `hint:`.
A block without is what has to be there before: statements that end with `;` at the end of a line and must succeed.

A block may begin with lines that say more:

  oracle: SQL             PostgreSQL runs this instead of the block (else: the block without our clauses)
  oracle: none, REASON    PostgreSQL runs nothing: it has no such statement
  only: oracle            statements for that side alone (or: router)
  state: 54000            the SQLSTATE, where it is not 0A000
  data: 5047434f50590a    what COPY FROM STDIN is sent, in hexadecimal (else: nothing)
"""
import dataclasses
import re

DIRECTIVE = re.compile(r"^(oracle|only|state|data): (.*)$")
NEVER = "none, "


@dataclasses.dataclass
class Block:
    line: int
    text: str  # all lines up to `----`
    options: dict
    statements: list
    answer: str = None  # None: must succeed

    def for_router(self):
        return [] if self.options.get("only") == "oracle" else self.statements

    def plain(self, strip):
        """What PostgreSQL runs; `strip` takes our clauses out of a statement."""
        if self.options.get("only") == "router":
            return []
        other = self.options.get("oracle")
        if other is None:
            return [strip(sql) for sql in self.statements]
        return [] if other.startswith(NEVER) else [other]

    @property
    def state(self):
        return self.options.get("state", "0A000")

    def run(self, session, sql):
        return session.simple(sql, copy_data=bytes.fromhex(self.options.get("data", "")))


@dataclasses.dataclass
class Section:
    title: str
    items: list = dataclasses.field(default_factory=list)  # blocks, and comments as they are

    @property
    def name(self):
        return re.sub(r"[^a-z0-9]+", "_", self.title.lower()).strip("_")

    def blocks(self):
        return [item for item in self.items if isinstance(item, Block)]


def paragraphs(text):
    """(number of the first line, lines) of what stands between empty lines."""
    lines, start = [], 0
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.strip():
            start = start if lines else number
            lines.append(line)
        elif lines:
            yield start, lines
            lines = []


def parse_block(number, lines):
    cut = lines.index("----") if "----" in lines else len(lines)
    options, sql = {}, []
    for line in lines[:cut]:
        match = DIRECTIVE.match(line)
        if match and not sql:
            options[match[1]] = match[2]
        else:
            sql.append(line)
    if cut < len(lines):
        return Block(number, "\n".join(lines[:cut]), options, ["\n".join(sql)], "\n".join(lines[cut + 1:]))
    statements = [one.strip() for one in re.split(r";$", "\n".join(sql), flags=re.MULTILINE)]
    if statements.pop():
        raise ValueError(f"line {number}: no ';' at the end, and no answer")
    return Block(number, "\n".join(lines), options, statements)


def parse(text):
    """(what stands before the first section, sections)"""
    head, sections = [], []
    for number, lines in paragraphs(text):
        if lines[0].startswith("== "):
            sections.append(Section(lines[0][3:]))
            lines, number = lines[1:], number + 1
        if not lines:
            continue
        comment = all(line.startswith("#") for line in lines)
        item = "\n".join(lines) if comment else parse_block(number, lines)
        (sections[-1].items if sections else head).append(item)
    return head, sections


def write(head, sections):
    parts = list(head)
    for section in sections:
        parts.append(f"== {section.title}")
        for item in section.items:
            refused = isinstance(item, Block) and item.answer is not None
            parts.append(f"{item.text}\n----\n{item.answer}" if refused else getattr(item, "text", item))
    return "\n\n".join(parts) + "\n"


def show(answer):
    """An answer as the file has it."""
    lines = [f"{answer.sqlstate}: {answer.message}" if answer.sqlstate else f"no error: {answer.brief()}"]
    lines += [f"  {name}: {value}" for name, value in (("detail", answer.detail), ("hint", answer.hint)) if value]
    return "\n".join("  \\n".join(line.split("\n")) for line in lines)
