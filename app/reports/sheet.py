"""A sheet of values as CSV (RFC 4180) that no program takes for anything but values."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from datetime import datetime

# With one of these at its beginning a spreadsheet takes a text for a formula, also behind blanks,
# and some of them the wide forms too (https://owasp.org/www-community/attacks/CSV_Injection).
_FORMULA = re.compile(r"[\s\x00]*[=+\-@＝＋－＠\t\r]")  # noqa: RUF001 - what is meant


def rows_to_csv(rows: Iterable[Sequence[object]]) -> bytes:
    """Return rows in UTF-8, each value in quotes, lines ended by CR and LF.

    A text that could be a formula gets an apostrophe before it. Decimals are written exactly,
    moments in UTC as RFC 3339 has them.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerows([_plain(value) for value in row] for row in rows)
    return text.getvalue().encode()


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, str):
        return f"'{value}" if _FORMULA.match(value) else value
    return str(value)
