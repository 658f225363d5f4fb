"""Takes mail on the bridge of a lab: ``python -m deploy.lab.mail_server STATE``."""

import asyncio
import itertools
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from deploy.lab import settings
from deploy.lab.settings import Lab


class Folder:
    """Keeps each mail as a file of its own, which appears when it is whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """Keep one mail; the answer is SMTP's (RFC 5321, section 4.2)."""
        del server, session
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{next(self._numbers)}"
        temporary = self._folder / f".{name}.new"
        temporary.write_bytes(envelope.original_content or b"")
        temporary.rename(self._folder / f"{name}.eml")
        return "250 Kept"


async def serve(lab: Lab) -> None:
    """Take mail until the process is asked to end."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    folder = Folder(lab.mail)
    server = await loop.create_server(
        lambda: SMTP(folder, hostname=f"mail.{lab.domain}", loop=loop),
        lab.gateway,
        lab.mail_port,
    )
    async with server:
        await ended.wait()


def main(arguments: list[str]) -> int:
    """Serve the lab of a state folder."""
    lab = settings.load(Path(arguments[0]))
    if lab is None:
        return 1
    asyncio.run(serve(lab))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
