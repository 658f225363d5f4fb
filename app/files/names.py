"""The names that people give to their files: shown to them again, and never part of a path."""

import unicodedata
from urllib.parse import quote

LONGEST = 255
# RFC 8187, section 3.2.1: attr-char.
_ATTRIBUTE = "!#$&+-.^_`|~"
# In a quoted text some clients take these for more than themselves.
_SPECIAL = frozenset('"\\%')


def clean(name: str) -> str:
    """Return a client's name for a file as it is kept: the last part of a path, on one line.

    What cannot be seen is left out, such as the marks that turn the direction of a text, by which
    `gpj.exe` looks like `exe.jpg`. Of a name that is too long the beginning is kept, and its end.
    """
    last = name.replace("\\", "/").rpartition("/")[2]
    # Spaces are made one last: two of them may meet where something between them was left out.
    seen = "".join(one for one in last if one.isprintable() or one.isspace())
    text = " ".join(unicodedata.normalize("NFC", seen).split()).strip(". ")
    if len(text) <= LONGEST:
        return text
    end = text[-(LONGEST // 4) :]
    suffix = f".{end.rpartition('.')[2]}" if "." in end else ""
    return (text[: LONGEST - len(suffix)] + suffix).rstrip(". ")


def attachment(name: str) -> str:
    """Return the Content-Disposition of a file that is to be saved (RFC 6266).

    Clients that know no Unicode get a name in which a line stands for each character that is not
    plain.
    """
    plain = "".join(
        one if one.isascii() and one.isprintable() and one not in _SPECIAL else "_" for one in name
    )
    value = f'attachment; filename="{plain}"'
    if plain == name:
        return value
    return f"{value}; filename*=UTF-8''{quote(name, safe=_ATTRIBUTE)}"
