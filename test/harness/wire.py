"""One session at the level of the protocol: what exactly a server answered, and how two answers differ."""
import dataclasses
import select
import time

from psycopg import pq

from harness.processes import PATIENCE

TEXT, BINARY = 0, 1
FIRST_USER_OID = 16384
DIAG = pq.DiagnosticField


class Stalled(Exception):
    """The server did not answer in time."""


@dataclasses.dataclass
class Answer:
    """One result of a statement."""
    status: str = ""
    tag: str = ""
    names: tuple = ()
    types: tuple = ()
    modifiers: tuple = ()
    rows: list = dataclasses.field(default_factory=list)
    copied: list = dataclasses.field(default_factory=list)
    notices: list = dataclasses.field(default_factory=list)
    sqlstate: str = ""
    message: str = ""
    detail: str = ""
    hint: str = ""
    position: str = ""
    context: str = ""

    def brief(self):
        if self.sqlstate:
            return f"{self.sqlstate} {self.message}"
        return f"{self.tag}, {len(self.rows)} rows"


def text_of(value):
    return value.decode(errors="replace") if value else ""


def is_ordered(sql):
    """Whether ORDER BY stands at the top level of a statement."""
    depth = 0
    words = []
    for word in sql.replace("(", " ( ").replace(")", " ) ").lower().split():
        depth += (word == "(") - (word == ")")
        if depth == 0:
            words.append(word)
    return any(a == "order" and b == "by" for a, b in zip(words, words[1:]))


class Session:
    """A connection on which every answer has a deadline."""

    def __init__(self, endpoint, timeout_s=30, **options):
        self.timeout_s = timeout_s
        self.notices = []
        self.connection = pq.PGconn.connect(endpoint.conninfo(**options).encode())
        if self.connection.status != pq.ConnStatus.OK:
            raise ConnectionError(text_of(self.connection.error_message))
        self.connection.notice_handler = self.take_notice

    def take_notice(self, result):
        self.notices.append((text_of(result.error_field(DIAG.SEVERITY_NONLOCALIZED)),
                             text_of(result.error_field(DIAG.SQLSTATE)),
                             text_of(result.error_field(DIAG.MESSAGE_PRIMARY))))

    def close(self):
        self.connection.finish()

    def cancel(self):
        self.connection.get_cancel().cancel()

    @property
    def transaction(self):
        return pq.TransactionStatus(self.connection.transaction_status).name

    def parameter(self, name):
        return text_of(self.connection.parameter_status(name.encode()))

    def _wait(self, deadline):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self.connection.socket], [], [], left)[0]:
            raise Stalled(f"no answer in {self.timeout_s * PATIENCE:.0f} s")
        self.connection.consume_input()

    def next_result(self):
        deadline = time.monotonic() + self.timeout_s * PATIENCE
        while self.connection.is_busy():
            self._wait(deadline)
        return self.connection.get_result()

    def simple(self, sql, copy_data=None):
        """Sends one simple Query; a list of answers, one per statement."""
        self.connection.send_query(sql.encode())
        return self._answers(copy_data)

    def extended(self, sql, values=None, types=None, formats=None, result_format=TEXT, copy_data=None):
        """Parse, Bind, Describe, Execute, Sync of the unnamed statement; a list of one answer."""
        encoded = [value.encode() if isinstance(value, str) else value for value in values or []]
        self.connection.send_query_params(sql.encode(), encoded, types, formats, result_format)
        return self._answers(copy_data)

    def _answers(self, copy_data):
        answers = []
        while True:
            result = self.next_result()
            if result is None:
                break
            status = pq.ExecStatus(result.status)
            if status == pq.ExecStatus.COPY_IN:
                self._send_copy(copy_data)
                continue
            answer = self._answer(result, status)
            if status == pq.ExecStatus.COPY_OUT:
                answer.copied = self._receive_copy()
            answers.append(answer)
        return answers

    def _send_copy(self, data):
        if data is None:
            self.connection.put_copy_end(b"no data given")
            return
        for chunk in [data[start:start + 8000] for start in range(0, len(data), 8000)]:
            self.connection.put_copy_data(chunk)
        self.connection.put_copy_end(None)
        while self.connection.flush():
            select.select([], [self.connection.socket], [], 1)

    def _receive_copy(self):
        lines = []
        deadline = time.monotonic() + self.timeout_s * PATIENCE
        while True:
            size, data = self.connection.get_copy_data(1)
            if size == -1:
                return lines
            if size == 0:
                self._wait(deadline)
            else:
                lines.append(bytes(data))

    def _answer(self, result, status):
        notices, self.notices = self.notices, []
        answer = Answer(status=status.name, tag=text_of(result.command_status), notices=notices)
        columns = range(result.nfields)
        answer.names = tuple(text_of(result.fname(column)) for column in columns)
        answer.types = tuple(result.ftype(column) for column in columns)
        answer.modifiers = tuple(result.fmod(column) for column in columns)
        answer.rows = [tuple(result.get_value(row, column) for column in columns) for row in range(result.ntuples)]
        if status == pq.ExecStatus.FATAL_ERROR:
            field = result.error_field
            answer.sqlstate = text_of(field(DIAG.SQLSTATE)) or "-----"
            answer.message = text_of(field(DIAG.MESSAGE_PRIMARY)) or text_of(result.error_message)
            answer.detail = text_of(field(DIAG.MESSAGE_DETAIL))
            answer.hint = text_of(field(DIAG.MESSAGE_HINT))
            answer.position = text_of(field(DIAG.STATEMENT_POSITION))
            answer.context = text_of(field(DIAG.CONTEXT))
        return answer


@dataclasses.dataclass(frozen=True)
class Strictness:
    """What two answers must have in common."""
    ordered: bool = True
    message: bool = True
    position: bool = True
    detail: bool = False
    context: bool = False
    notices: bool = True
    types: bool = True
    rows: bool = True


def show_rows(rows, limit=8):
    def show(value):
        return "NULL" if value is None else text_of(value) if value != b"" else "''"
    lines = ["|".join(map(show, row)) if isinstance(row, tuple) else show(row) for row in rows[:limit]]
    return "; ".join(lines) + (f"; … ({len(rows)} in all)" if len(rows) > limit else "") if rows else "no rows"


def _row_differences(ours, theirs, ordered):
    key = repr
    if not ordered:
        ours, theirs = sorted(ours, key=key), sorted(theirs, key=key)
    if ours == theirs:
        return []
    if len(ours) != len(theirs):
        return [f"{len(ours)} rows, the oracle has {len(theirs)}: {show_rows(ours)} against {show_rows(theirs)}"]
    wrong = [pair for pair in zip(ours, theirs) if pair[0] != pair[1]]
    return [f"{len(wrong)} of {len(ours)} rows differ: {show_rows([pair[0] for pair in wrong], 4)} "
            f"against {show_rows([pair[1] for pair in wrong], 4)}"]


def built_in(types):
    return tuple(oid if oid < FIRST_USER_OID else "user" for oid in types)


def differences(ours, theirs, strict=Strictness()):
    """Lines that say how the router's answer differs from the oracle's; none: they agree."""
    if bool(ours.sqlstate) != bool(theirs.sqlstate):
        return [f"{ours.brief()}, the oracle says {theirs.brief()}"]
    found = []

    def same(what, mine, other):
        if mine != other:
            found.append(f"{what} {mine!r}, the oracle's {other!r}")

    if theirs.sqlstate:
        same("SQLSTATE", ours.sqlstate, theirs.sqlstate)
        if strict.message:
            same("message", ours.message, theirs.message)
            same("hint", ours.hint, theirs.hint)
        if strict.detail:
            same("detail", ours.detail, theirs.detail)
        if strict.context:
            same("context", ours.context, theirs.context)
        if strict.position:
            same("position", ours.position, theirs.position)
        return found
    same("command tag", ours.tag, theirs.tag)
    same("column names", ours.names, theirs.names)
    if strict.types:
        same("column types", built_in(ours.types), built_in(theirs.types))
        same("type modifiers", ours.modifiers, theirs.modifiers)
    if strict.notices:
        same("notices", ours.notices, theirs.notices)
    if strict.rows:
        found += _row_differences(ours.rows, theirs.rows, strict.ordered)
        found += _row_differences(ours.copied, theirs.copied, strict.ordered)
    return found


def all_differences(ours, theirs, strict=Strictness()):
    """The same for the answers of a whole query string."""
    if len(ours) != len(theirs):
        return [f"{len(ours)} results ({', '.join(a.brief() for a in ours)}), "
                f"the oracle gives {len(theirs)} ({', '.join(a.brief() for a in theirs)})"]
    return [line for pair in zip(ours, theirs) for line in differences(*pair, strict)]
