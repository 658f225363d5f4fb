"""The settings of one service on this host, written by the role `release`."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slipway_release.errors import RefusedError

DIRECTORY = Path("/etc/slipway")
_PROCESS = re.compile(r"[a-z][a-z0-9-]{0,30}")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the tool has to know of a service; every path is absolute, every time in seconds.

    Attributes:
        app: Name of the service and of its units, `<app>@<version>.service`.
        root: Folder with `releases/`, `current` and `shared/`.
        state: Folder with the artifacts, the states of the releases and the history.
        sockets: Folder of the sockets that systemd holds.
        lock: File that the running operation holds locked.
        deploy_user: Owner of the releases; unpacks and installs.
        python: Interpreter that the virtual environments are made from.
        health_path: Answers 200 as soon as the service lives, with its version.
        ready_path: Answers 200 when the service can do its work.
        version_key: Member of the health answer that holds the version; '' when it has none.
        smoke_url: Address of the health path as the outside sees it.
        smoke_address: Where that address is looked for: this host's own Nginx.
        smoke_certificates: File with the certificates that it is known by; '' for the system's.
        smoke_certificate_name: Name that these are for; '' for the one of the address.
        has_preflight: Whether there is a unit `<app>-preflight@`.
        has_migrations: Whether there is a unit `<app>-migrate@`.
        has_contract: Whether there is a unit `<app>-contract@`.
        has_restore_point: Whether there is a unit `<app>-restore-point@`.
        keep_restore_points: Number of restore points that stay.
        keep: Number of releases that stay installed.
        ready_seconds: Longest time from the start to the first ready answer.
        smoke_seconds: Longest time until the new version answers through Nginx.
        watch_seconds: Time that the new release is watched before the old one is stopped.
        watch_error_ratio: Share of failed requests that the new release may have above the old one.
        watch_minimum_requests: Number of requests from which on their share of failures counts.
        warm_up_requests: Number of requests before the first of the public.
        free_megabytes: Room that a release must leave on the disk.
        metrics: File for Prometheus, rewritten after each operation.
        announcements: File with the addresses that hear of each operation, for root alone.
        run_properties: File with what `slipway run` gives to systemd-run, by the role `app`.
        console_command: What `slipway console` runs, a program with arguments; '' for nothing.
        workers: Names of the processes that work all the time, `<app>.<name>@<version>.service`.
        timers: Names of the jobs that are started by a schedule, `<app>.<name>@<version>.timer`.
    """

    app: str
    root: Path
    state: Path
    sockets: Path
    lock: Path
    deploy_user: str
    python: Path
    health_path: str
    ready_path: str
    version_key: str
    smoke_url: str
    smoke_address: str
    smoke_certificates: str
    smoke_certificate_name: str
    has_preflight: bool
    has_migrations: bool
    has_contract: bool
    has_restore_point: bool
    keep_restore_points: int
    keep: int
    ready_seconds: float
    smoke_seconds: float
    watch_seconds: float
    watch_error_ratio: float
    watch_minimum_requests: int
    warm_up_requests: int
    free_megabytes: int
    metrics: Path
    announcements: Path
    run_properties: Path
    console_command: str
    workers: tuple[str, ...]
    timers: tuple[str, ...]

    @property
    def releases(self) -> Path:
        """Folder with one folder a release."""
        return self.root / "releases"

    @property
    def current(self) -> Path:
        """The link that decides what is live."""
        return self.root / "current"

    @property
    def smoke_host(self) -> str:
        """Public name of the service."""
        return urlsplit(self.smoke_url).hostname or "localhost"

    @property
    def maintenance(self) -> Path:
        """What Nginx includes into the site; while it is there, the site is closed."""
        return self.state / "maintenance" / "site.conf"

    @property
    def restore_points(self) -> Path:
        """Folder of what was saved of the database, for root and its user alone."""
        return self.state / "restore-points"

    def release(self, version: str) -> Path:
        """Folder of a release."""
        return self.releases / version

    def artifact(self, version: str) -> Path:
        """Where the controller puts the artifact of a release."""
        return self.state / "incoming" / f"{self.app}-{version}.tar"


def parse(text: str, source: str) -> Settings:
    """Read settings from JSON.

    Raises:
        RefusedError: It is not JSON, or a member is missing, unknown or of the wrong kind.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise RefusedError(f"{source} is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise RefusedError(f"{source} must hold one JSON object.")
    fields = {field.name: str(field.type) for field in dataclasses.fields(Settings)}
    if set(values) != set(fields):
        missing = ", ".join(sorted(set(fields) - set(values))) or "nothing"
        unknown = ", ".join(sorted(set(values) - set(fields))) or "nothing"
        raise RefusedError(f"{source}: missing {missing}; unknown {unknown}.")
    settings = Settings(**{name: _value(values[name], name, fields, source) for name in fields})
    _check(settings, source)
    return settings


def _value(value: object, name: str, fields: dict[str, str], source: str) -> Any:  # noqa: ANN401
    kind = fields[name]
    if kind == "Path" and isinstance(value, str) and value.startswith("/"):
        return Path(value)
    if kind == "bool" or isinstance(value, bool):
        if kind == "bool" and isinstance(value, bool):
            return value
    elif kind == "int" and isinstance(value, int) and value >= 0:
        return value
    elif kind == "float" and isinstance(value, int | float) and value >= 0:
        return float(value)
    elif kind == "str" and isinstance(value, str):
        return value
    elif kind == "tuple[str, ...]" and isinstance(value, list) and all(map(_is_process, value)):
        return tuple(value)
    raise RefusedError(f"{source}: {name} is {value!r}, which is no {kind}.")


def _is_process(name: object) -> bool:
    return isinstance(name, str) and _PROCESS.fullmatch(name) is not None


def _check(settings: Settings, source: str) -> None:
    if _NAME.fullmatch(settings.app) is None:
        raise RefusedError(f"{source}: app is {settings.app!r}: use a-z, 0-9, - and _.")
    if settings.keep < 2:  # noqa: PLR2004
        raise RefusedError(f"{source}: keep must be 2 or more, or there is no way back.")
    if settings.keep_restore_points < 1:
        raise RefusedError(f"{source}: keep_restore_points must be 1 or more.")
    try:
        shlex.split(settings.console_command)
    except ValueError as error:
        raise RefusedError(f"{source}: console_command has an open quotation mark.") from error
    if urlsplit(settings.smoke_url).scheme not in {"http", "https"}:
        raise RefusedError(f"{source}: smoke_url is {settings.smoke_url!r}, which is no URL.")


def load(app: str | None, directory: Path = DIRECTORY) -> Settings:
    """Read the settings of a service; without a name, of the only one on this host.

    Raises:
        RefusedError: There is no such service, or more than one and none was named.
    """
    found = sorted(directory.glob("*.json"))
    names = ", ".join(path.stem for path in found)
    if app is None:
        if not found:
            raise RefusedError(f"There is no service in {directory}: run playbook.yml first.")
        if len(found) > 1:
            raise RefusedError(f"This host has several services ({names}): choose with --app.")
        path = found[0]
    else:
        path = directory / f"{app}.json"
        if path not in found:
            raise RefusedError(f"There is no service {app} here, only: {names or 'none'}.")
    return parse(path.read_text(encoding="utf-8"), str(path))
