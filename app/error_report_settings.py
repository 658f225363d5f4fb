"""The settings of error reports; `app.settings` makes them part of all settings."""

from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, SecretStr

from app.settings_source import EnvironmentSettings


def _has_a_port(parts: SplitResult) -> bool:
    """Say whether its port is one, said or not: it is read as a number only when asked for."""
    try:
        return parts.port != 0
    except ValueError:
        return False


def _checked_dsn(value: SecretStr | None) -> SecretStr | None:
    text = value.get_secret_value().strip() if value is not None else ""
    if not text:
        return None
    parts = urlsplit(text)
    usable = parts.scheme in {"http", "https"} and parts.hostname and parts.username
    if not usable or not parts.path.rpartition("/")[2].isdecimal() or not _has_a_port(parts):
        message = "it must look like https://KEY@HOST/PROJECT"
        raise ValueError(message)
    return SecretStr(text)


class ErrorReportSettings(EnvironmentSettings):
    """Where unforeseen errors are reported to, and how much that may cost."""

    sentry_dsn: Annotated[SecretStr | None, AfterValidator(_checked_dsn)] = Field(
        None,
        description="Secret: DSN of a Sentry or of what speaks its protocol, "
        "`https://KEY@HOST/PROJECT`; without it no error is reported.",
    )
    sentry_environment: str = Field("production", description="Environment that the reports name.")
    sentry_timeout: float = Field(
        5.0, gt=0, le=60, description="Seconds that the error tracker may take for a report."
    )
    sentry_flush_seconds: float = Field(
        2.0,
        ge=0,
        le=30,
        description="Seconds that a process which stops waits for the reports under way.",
    )
    sentry_reports_per_minute: int = Field(
        30, ge=1, description="Reports that one process sends in a minute; it counts the rest."
    )
