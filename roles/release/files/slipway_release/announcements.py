"""Who hears of a release: a file for root alone, since it holds an address that is a secret."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from urllib.parse import urlsplit

from slipway_release.errors import RefusedError


@dataclasses.dataclass(frozen=True)
class Announcements:
    """Where announcements go; '' for nowhere.

    Attributes:
        webhook_url: Takes Slack's JSON; whoever knows it may post there.
        grafana_url: A Grafana that marks operations in its graphs, by `grafana_token`.
        proxy: URL of the HTTP proxy between this host and both of them; '' for none.
        mail_host: Takes mail by SMTP, at `mail_port`.
        mail_from: The sender.
        mail_to: The recipients.
        mail_starttls: Whether the connection is encrypted before anything is said.
        mail_user: Logs in with `mail_password`; '' for not at all.
    """

    webhook_url: str = ""
    grafana_url: str = ""
    grafana_token: str = ""
    proxy: str = ""
    mail_host: str = ""
    mail_port: int = 25
    mail_from: str = ""
    mail_to: tuple[str, ...] = ()
    mail_starttls: bool = False
    mail_user: str = ""
    mail_password: str = ""

    def __bool__(self) -> bool:
        """Whether there is anyone who hears."""
        return bool(self.webhook_url or self.grafana_url or self.mail_host)


def load(path: Path) -> Announcements:
    """Read the file.

    Raises:
        RefusedError: It is not what it should be; the message holds no value of it.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["mail_to"] = tuple(values["mail_to"])
        found = Announcements(**values)
        addresses = {"webhook": found.webhook_url, "grafana": found.grafana_url}
        schemes = {name: urlsplit(url).scheme for name, url in addresses.items() if url}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise RefusedError(
            f"{path} is not what the role `release` writes ({type(error).__name__}): run it again."
        ) from None
    for name, scheme in schemes.items():
        if scheme not in {"http", "https"}:
            raise RefusedError(
                f"{path}: the {name} is no URL with https: correct release_{name}_url."
            )
    if found.grafana_url and not found.grafana_token:
        raise RefusedError(
            f"{path}: Grafana lets nobody in without a token: set release_grafana_token."
        )
    if found.mail_host and not (found.mail_from and found.mail_to):
        raise RefusedError(
            f"{path}: mail needs a sender and recipients: set release_mail_from, release_mail_to."
        )
    return found
