"""The texts of the mails, made from templates."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from app.mail.message import Mail

TEMPLATES = Path(__file__).parent / "templates"


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES),
        # Only what becomes a page; in plain text `&amp;` would be read as it is written.
        autoescape=select_autoescape(("html.j2",), default=False, default_for_string=False),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(name: str, /, **values: str | None) -> Mail:
    """Make a mail from the templates `<name>.subject.j2`, `<name>.txt.j2` and `<name>.html.j2`.

    Raises:
        TemplateNotFound: when there is no such mail.
        UndefinedError: when a value is missing.
        ValueError: when a value would make a second line in the subject.
    """
    subject, text, html = (
        _environment().get_template(f"{name}.{kind}.j2").render(values)
        for kind in ("subject", "txt", "html")
    )
    return Mail(subject.strip(), text.strip() + "\n", html.strip() + "\n")
