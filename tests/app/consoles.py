"""The console as a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.processes import counted
from tests.services import ROOT

Result = subprocess.CompletedProcess[str]
RunConsole = Callable[..., Result]


def host_environment(folder: Path, database_url: str, secret: str) -> dict[str, str]:
    """Return what a unit of the host gives: settings, credentials and who acts."""
    credentials = folder / "credentials"
    credentials.mkdir()
    (credentials / "app_token_secret").write_text(secret)
    return {
        "PATH": os.environ["PATH"],
        **counted(),
        "PYTHONDONTWRITEBYTECODE": "1",
        "APP_DATABASE_URL": database_url,
        "APP_FILE_FOLDER": str(folder),
        "APP_LOG_OUTPUT": "json",
        "CREDENTIALS_DIRECTORY": str(credentials),
        "SLIPWAY_OPERATOR": "olga",
    }


def run_console(
    environment: dict[str, str], *arguments: str | bytes, given: str = "", **changes: str
) -> Result:
    """Run one command; nothing of it may be a trace of Python."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "app.console", *arguments],
        check=False,
        input=given,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**environment, **changes},
        timeout=60,
    )
    assert "Traceback" not in result.stderr
    return result


def sentence(result: Result) -> str:
    """Return why a command was not carried out."""
    assert (result.returncode, result.stdout) == (1, ""), result.stderr
    (line,) = result.stderr.splitlines()
    return line
