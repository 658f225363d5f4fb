"""Mails, taken by real SMTP servers."""

import json
import socket
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import jinja2
import pytest

from app import log
from app.errors import SettingsError
from app.mail import Mail, Mailer, MailError, render
from app.mail.rendering import TEMPLATES
from app.mail_addresses import AddressError, parse_address, parse_sender
from app.settings import Settings, load_settings
from tests.app.smtp_servers import Certificate, Inbox, make_certificate, running_smtp

MAIL = Mail("Good day", "Grüße\n", "<p>Grüße</p>\n")
ADDRESS = "anna@example.com"
NAMES = ("verify_email", "password_reset", "password_changed", "email_changed")
VALUES = {"name": "Anna", "token": "the-token", "lifetime": "30 minutes", "link": None}


def settings_of(port: int = 0, **changes: Any) -> Settings:
    values = {
        "database_url": "postgresql+asyncpg://harbour@/harbour",
        "token_secret": "s" * 40,
        "mail_host": "localhost",
        "mail_port": port or 587,
        "mail_security": "none",
        "mail_from": "Harbour <noreply@harbour.example>",
        "mail_timeout": 5,
        "file_store": "none",
        "log_output": "json",
    }
    return Settings(**{**values, **changes})


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def trusted(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> Certificate:
    """The certificate, vouched for by the system."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    return certificate


@pytest.fixture
def plain() -> Iterator[Inbox]:
    with running_smtp() as inbox:
        yield inbox


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """Return the log lines so far, without those of the servers."""
    log.configure(settings_of())

    def read() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        return [line for line in found if "logger" not in line]

    return read


def body_of(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert body is not None
    content = body.get_content()
    assert isinstance(content, str)
    return content.replace("\r\n", "\n")


async def test_a_mail_has_what_a_mail_of_a_program_has(plain: Inbox) -> None:
    await Mailer(settings_of(plain.port)).send(ADDRESS, MAIL)
    (message,) = plain.messages
    assert plain.recipients == [ADDRESS]
    assert plain.senders == ["noreply@harbour.example"]
    assert message["From"] == "Harbour <noreply@harbour.example>"
    assert message["To"] == ADDRESS
    assert message["Subject"] == "Good day"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Message-ID"].endswith("@harbour.example>")
    assert message["Date"].datetime.tzinfo is not None
    assert message.get_content_type() == "multipart/alternative"
    assert body_of(message, "plain") == "Grüße\n"
    assert body_of(message, "html") == "<p>Grüße</p>\n"


async def test_starttls_with_a_login(trusted: Certificate) -> None:
    with running_smtp(
        tls_context=trusted.context(), require_starttls=True, auth_required=True
    ) as inbox:
        settings = settings_of(
            inbox.port,
            mail_security="starttls",
            mail_username="harbour",
            mail_password="the-password",
        )
        await Mailer(settings).send(ADDRESS, MAIL)
    assert inbox.logins == [("harbour", "the-password")]
    assert len(inbox.messages) == 1


async def test_tls_from_the_first_byte(trusted: Certificate) -> None:
    with running_smtp(ssl_context=trusted.context()) as inbox:
        await Mailer(settings_of(inbox.port, mail_security="tls")).send(ADDRESS, MAIL)
    assert len(inbox.messages) == 1


async def test_a_server_without_starttls_gets_nothing(plain: Inbox) -> None:
    with pytest.raises(MailError):
        await Mailer(settings_of(plain.port, mail_security="starttls")).send(ADDRESS, MAIL)
    assert plain.messages == []


@pytest.mark.parametrize(
    ("security", "option"), [("tls", "ssl_context"), ("starttls", "tls_context")]
)
async def test_an_unknown_certificate_is_refused(
    certificate: Certificate, security: str, option: str
) -> None:
    with running_smtp(**{option: certificate.context()}) as inbox:
        with pytest.raises(MailError, match="SSLCertVerificationError"):
            await Mailer(settings_of(inbox.port, mail_security=security)).send(ADDRESS, MAIL)
        assert inbox.messages == []


async def test_a_wrong_password_may_be_put_right(trusted: Certificate) -> None:
    with running_smtp(
        tls_context=trusted.context(), require_starttls=True, auth_required=True
    ) as inbox:
        settings = settings_of(
            inbox.port, mail_security="starttls", mail_username="harbour", mail_password="wrong"
        )
        with pytest.raises(MailError, match="535"):
            await Mailer(settings).send(ADDRESS, MAIL)


async def test_a_recipient_refused_for_good_is_not_tried_again(
    plain: Inbox, lines: Callable[[], list[dict[str, Any]]]
) -> None:
    plain.rcpt_answer = f"550 5.1.1 <{ADDRESS}> is nobody here"
    await Mailer(settings_of(plain.port)).send(ADDRESS, MAIL)
    (line,) = lines()
    assert line["event"] == "mail.refused"
    assert line["smtp_code"] == 550
    assert "anna" not in json.dumps(line)


@pytest.mark.parametrize(
    "changes",
    [
        {"rcpt_answer": f"450 4.2.0 <{ADDRESS}> is busy"},
        {"data_answer": f"451 4.3.0 not now for {ADDRESS}"},
        {"data_answer": f"554 5.7.1 looks bad for {ADDRESS}"},
        {"hangs_up": True},
    ],
    ids=lambda changes: " ".join(str(value)[:3] for value in changes.values()),
)
async def test_everything_else_may_be_tried_again(plain: Inbox, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(plain, name, value)
    with pytest.raises(MailError) as caught:
        await Mailer(settings_of(plain.port)).send(ADDRESS, MAIL)
    assert "anna" not in str(caught.value)
    assert f"localhost:{plain.port}" in str(caught.value)


async def test_a_server_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(MailError, match="could not be talked to"):
            await Mailer(settings_of(taken.getsockname()[1])).send(ADDRESS, MAIL)


async def test_a_server_that_says_nothing() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        settings = settings_of(silent.getsockname()[1], mail_timeout=0.3)
        with pytest.raises(MailError, match="Timeout"):
            await Mailer(settings).send(ADDRESS, MAIL)


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("a@straße.de", "xn--strae-oqa.de"),
        ("a@STRAßE.de", "xn--strae-oqa.de"),
        ("a@Example.com", "Example.com"),
        ("a@bücher.example", "xn--bcher-kva.example"),
        ("a@bu\u0308cher.example", "xn--bcher-kva.example"),
    ],
)
async def test_domains_are_written_by_the_rules_of_2008(
    plain: Inbox, address: str, domain: str
) -> None:
    await Mailer(settings_of(plain.port)).send(address, MAIL)
    assert plain.recipients == [f"a@{domain}"]
    assert plain.messages[0]["To"] == f"a@{domain}"


@pytest.mark.parametrize(
    "address",
    [
        "a@example.com\nBcc: b@example.com",
        "a@example.com\r\nBcc: b@example.com",
        "a\u2028@example.com",
        "a@example.com, b@example.com",
        "Anna <a@example.com>",
        "a@b@example.com",
        "@example.com",
        "a@",
        "nobody",
        "",
        "a@exa mple.com",
        "a@\u2603-\u0301.example",
    ],
)
async def test_what_is_no_address_gets_no_mail(
    plain: Inbox, lines: Callable[[], list[dict[str, Any]]], address: str
) -> None:
    with pytest.raises(AddressError):
        parse_address(address)
    await Mailer(settings_of(plain.port)).send(address, MAIL)
    (line,) = lines()
    assert line["event"] == "mail.refused"
    assert plain.messages == []


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x00", "\u2028", "\x85"])
def test_a_subject_is_one_line(end: str) -> None:
    with pytest.raises(ValueError, match="one line"):
        Mail(f"Good day{end}Bcc: b@example.com", "", "")


async def test_production_without_a_server_warns_and_tells_nothing(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    await Mailer(settings_of(mail_host="")).send(ADDRESS, MAIL)
    (line,) = lines()
    assert (line["event"], line["level"]) == ("mail.not_sent", "warning")
    for secret in ("anna", "Good day", "Gr"):
        assert secret not in json.dumps(line)


async def test_development_without_a_server_shows_the_text(
    lines: Callable[[], list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await Mailer(settings_of(mail_host="", environment="development")).send(ADDRESS, MAIL)
    (line,) = lines()
    assert line["event"] == "mail.shown"
    assert "Grüße" in line["message"]


@pytest.mark.parametrize("name", NAMES)
def test_every_mail_can_be_read_as_text_and_as_a_page(name: str) -> None:
    values = {**VALUES, "new_address": "a…@example.com"}
    for link in (None, "https://www.example.com/?token=the-token&x=1"):
        mail = render(name, **{**values, "link": link})
        assert "Hello Anna" in mail.text
        assert "Hello Anna" in mail.html
        assert mail.subject
        assert "you" in mail.text
        assert "{{" not in mail.text + mail.html
        assert all(len(line) <= 100 for line in mail.text.splitlines())
        if name in {"verify_email", "password_reset"}:
            assert "30 minutes" in mail.text
            assert ("The application asks for this code" in mail.text) == (link is None)
            assert (f"\n\n{link}\n" in mail.text) == (link is not None)
            assert "?token=the-token&amp;x=1" in mail.html or link is None


def test_every_template_is_used_by_a_mail() -> None:
    files = {path.name for path in TEMPLATES.iterdir() if not path.name.startswith("_")}
    assert files == {f"{name}.{kind}.j2" for name in NAMES for kind in ("subject", "txt", "html")}


def test_values_do_not_become_html() -> None:
    mail = render("verify_email", **{**VALUES, "name": "<b>&"})
    assert "Hello &lt;b&gt;&amp;" in mail.html
    assert "Hello <b>&" in mail.text


def test_a_missing_value_is_no_gap() -> None:
    with pytest.raises(jinja2.UndefinedError, match="token"):
        render("verify_email", name="Anna", lifetime="30 minutes", link=None)


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"APP_MAIL_HOST": "mail.example.com"}, "set APP_MAIL_FROM"),
        *(
            ({"APP_MAIL_HOST": "mail.example.com", "APP_MAIL_FROM": sender}, "set APP_MAIL_FROM")
            for sender in ("no-reply@", "Harbour @ Sea", "Harbour <a b@c.example>", "<>")
        ),
        ({"APP_MAIL_FROM": "a@example.com\nBcc: b@example.com"}, "APP_MAIL_FROM: it must be one"),
        ({"APP_MAIL_HOST": "a\r\nb"}, "APP_MAIL_HOST: it must be one line"),
        ({"APP_PUBLIC_URL": "www.example.com"}, "APP_PUBLIC_URL: it must begin with https://"),
        ({"APP_MAIL_USERNAME": "harbour"}, "app_mail_password"),
        ({"APP_MAIL_SECURITY": "ssl"}, "APP_MAIL_SECURITY"),
        (
            {
                "APP_MAIL_USERNAME": "harbour",
                "APP_MAIL_PASSWORD": "p",
                "APP_MAIL_SECURITY": "none",
            },
            "unencrypted",
        ),
    ],
)
def test_settings_of_mail_that_cannot_work(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], sentence: str
) -> None:
    monkeypatch.setenv("APP_DATABASE_URL", "postgresql+asyncpg://harbour@/harbour")
    monkeypatch.setenv("APP_TOKEN_SECRET", "s" * 40)
    monkeypatch.setenv("APP_FILE_STORE", "none")
    assert load_settings(Settings).mail_host == ""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=sentence):
        load_settings(Settings)


@pytest.mark.parametrize(
    ("sender", "header"),
    [
        ("no-reply@example.com", "no-reply@example.com"),
        ("Harbour <no-reply@example.com>", "Harbour <no-reply@example.com>"),
        ("Harbour, Inc <no-reply@example.com>", '"Harbour, Inc" <no-reply@example.com>'),
        ('"Harbour, \\"Inc\\"" <a@b.example>', '"Harbour, \\"Inc\\"" <a@b.example>'),
        ("Acme: Mail <a@b.example>", '"Acme: Mail" <a@b.example>'),
        ("Harbour @ Sea <a@b.example>", '"Harbour @ Sea" <a@b.example>'),
    ],
)
def test_a_sender_may_have_any_name(sender: str, header: str) -> None:
    assert str(parse_sender(sender)) == header


def test_the_base_of_links_has_no_slash_at_its_end() -> None:
    assert settings_of(public_url="https://www.example.com/app/").public_url == (
        "https://www.example.com/app"
    )
