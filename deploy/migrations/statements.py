"""SQL as statements, with what the checks need to know of each."""

import dataclasses
import re
from collections.abc import Iterator

# https://www.postgresql.org/docs/current/sql-syntax-lexical.html
_TOKEN = re.compile(
    r"""
    (?P<comment> --[^\n]* | /\*.*?\*/ )
    | (?P<string> [eE]'(?:\\.|''|[^'\\])*' | '(?:''|[^'])*' )
    | "(?P<name> (?:""|[^"])* )"
    | (?P<body> \$(?P<tag>(?:[^\W\d]\w*)?)\$ (?P<inside>.*?) \$(?P=tag)\$ )
    | (?P<word> [^\W\d][\w$]* )
    | (?P<end> ; )
    | (?P<space> \s+ )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)
_BEGIN = re.compile(r"(?:BEGIN|START)(?: WORK| TRANSACTION)?(?: ISOLATION.*)?$", re.IGNORECASE)
_END = re.compile(r"(?:COMMIT|END|ROLLBACK)(?: WORK| TRANSACTION)?$", re.IGNORECASE)
_EXCERPT = 100


@dataclasses.dataclass(frozen=True)
class Statement:
    """One statement.

    Attributes:
        line: Where it begins, from 1.
        text: As it is written, on one line, without comments.
        code: The same with '' for each string, $$ for each body, and names without quotes.
        bodies: What stands between dollar quotes in it.
        in_transaction: Whether it runs inside a transaction.
    """

    line: int
    text: str
    code: str
    bodies: tuple[str, ...] = ()
    in_transaction: bool = True

    @property
    def excerpt(self) -> str:
        """The beginning of its text."""
        return self.text if len(self.text) <= _EXCERPT else f"{self.text[:_EXCERPT]}…"


def split(sql: str) -> list[Statement]:
    """Split SQL; SQL that begins no transaction by itself is run in one."""
    inside = not opens_transaction(sql)
    found = []
    for statement in pieces(sql):
        if _BEGIN.match(statement.code):
            inside = True
        elif _END.match(statement.code):
            inside = False
        else:
            found.append(dataclasses.replace(statement, in_transaction=inside))
    return found


def opens_transaction(sql: str) -> bool:
    """Tell whether the first statement begins a transaction."""
    first = next(pieces(sql), None)
    return first is not None and _BEGIN.match(first.code) is not None


def pieces(sql: str) -> Iterator[Statement]:
    """Return what semicolons end, also in a body of PL/pgSQL."""
    text, code, start, line = "", "", 0, 1
    bodies: list[str] = []
    for token in _TOKEN.finditer(sql):
        kind, value = token.lastgroup, token.group()
        if kind in {"tag", "inside"}:
            kind = "body"
        if kind == "end":
            if code.strip():
                yield Statement(start, _tidy(text), _tidy(code), tuple(bodies))
            text, code, bodies = "", "", []
        elif kind in {"comment", "space"}:
            text, code = f"{text} ", f"{code} "
        else:
            if not code.strip():
                start = line
            text += value
            code += {"string": "''", "body": "$$"}.get(str(kind), token["name"] or value)
            if kind == "body":
                bodies.append(token["inside"])
        line += value.count("\n")
    if code.strip():
        yield Statement(start, _tidy(text), _tidy(code), tuple(bodies))


def _tidy(text: str) -> str:
    return " ".join(text.split())
