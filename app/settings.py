"""Every setting of the service, read once at the start."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from limits import parse_many
from pydantic import AfterValidator, Field, SecretStr, model_validator
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.error_report_settings import ErrorReportSettings
from app.file_settings import FileSettings
from app.mail_settings import MailSettings
from app.realtime_settings import RealtimeSettings
from app.settings_source import EnvironmentSettings, kept_secret, load_settings
from app.task_settings import TaskSettings

__all__ = ["DatabaseSettings", "Settings", "load_settings"]

MINIMUM_SECRET_BYTES = 32
DEVELOPMENT_FOLDER = Path(".slipway")


def _checked_limit(value: str) -> str:
    """Refuse a limit that the library could not read; an empty one means no limit."""
    if value:
        parse_many(value)
    return value


def _checked_cache_url(value: str | None) -> str | None:
    if value is not None and not value.startswith(("unix://", "redis://", "rediss://")):
        message = "it must begin with unix://, redis:// or rediss://"
        raise ValueError(message)
    return value or None


RateLimit = Annotated[str, AfterValidator(_checked_limit)]
CacheUrl = Annotated[str | None, AfterValidator(_checked_cache_url)]


class DatabaseSettings(EnvironmentSettings):
    """What a migration needs to know: the environment and the way to the database."""

    environment: Literal["production", "development"] = Field(
        "production",
        description="`production`, or `development`: then an embedded database and a secret of "
        "its own are used where none is given, and the documentation of the API is served.",
    )
    database_url: str = Field(
        "",
        description="SQLAlchemy URL of the database, `postgresql+asyncpg://…`, without a "
        "password; `sqlite+aiosqlite://…` only in development.",
    )
    database_password: SecretStr | None = Field(
        None, description="Secret: password for the database, where it does not trust its peer."
    )

    @model_validator(mode="after")
    def _check_database(self) -> Self:
        if not self.database_url:
            if self.environment == "production":
                message = "database_url: set APP_DATABASE_URL"
                raise ValueError(message)
            DEVELOPMENT_FOLDER.mkdir(exist_ok=True)
        try:
            backend = self.sqlalchemy_url.get_backend_name()
        except ArgumentError:
            message = "database_url: APP_DATABASE_URL is not a URL that SQLAlchemy can read"
            raise ValueError(message) from None
        if backend == "sqlite" and self.environment == "production":
            message = "database_url: SQLite is for development only, production needs PostgreSQL"
            raise ValueError(message)
        return self

    @property
    def sqlalchemy_url(self) -> URL:
        """The database URL with the password in it: not for a log."""
        if not self.database_url:
            return make_url(f"sqlite+aiosqlite:///{DEVELOPMENT_FOLDER}/development.sqlite3")
        url = make_url(self.database_url)
        if self.database_password is not None:
            url = url.set(password=self.database_password.get_secret_value())
        return url


class Settings(
    TaskSettings,
    ErrorReportSettings,
    FileSettings,
    MailSettings,
    RealtimeSettings,
    DatabaseSettings,
):
    """Everything that the serving process needs to know."""

    release: str = Field("development", description="Version of the release that runs.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="The least important log level that is written."
    )
    log_output: Literal["auto", "journal", "json", "console"] = Field(
        "auto",
        description="Where log lines go: `auto` means the journal under systemd, colours on a "
        "terminal, JSON lines elsewhere.",
    )
    syslog_identifier: str = Field(
        "harbour", description="Name under which the journal files the log lines."
    )

    allowed_hosts: list[str] = Field(
        ["localhost", "127.0.0.1", "[::1]"],
        description="JSON list of the host names that the service answers to.",
    )
    cors_origins: list[str] = Field(
        [], description="JSON list of the web origins that may call the API from a browser."
    )
    max_body_size: int = Field(
        65_536,
        gt=0,
        description="Largest request body that is read, in bytes, but for uploads. JSON is parsed "
        "at a stretch, and all others of the worker wait meanwhile.",
    )

    database_read_pool_size: int = Field(
        16, ge=1, description="Connections of one worker for reading; opened when needed."
    )
    database_write_pool_size: int = Field(
        6, ge=1, description="Connections of one worker for transactions; opened when needed."
    )
    database_pool_timeout: float = Field(
        5.0, gt=0, description="Seconds that a request waits for a free connection."
    )
    database_statement_timeout: float = Field(
        10.0, gt=0, description="Seconds after which a statement is given up."
    )
    database_connect_timeout: float = Field(
        5.0, gt=0, description="Seconds that opening a connection may take."
    )

    cache_url: CacheUrl = Field(
        None,
        description="`unix:///path/to/socket` or `redis://host:port/0` of Redis or Valkey; "
        "without it every worker counts its rate limits for itself.",
    )
    cache_password: SecretStr | None = Field(None, description="Secret: password for the cache.")
    cache_timeout: float = Field(
        0.25, gt=0, description="Seconds that an answer of the cache may take."
    )
    cache_seconds: int = Field(
        60, ge=1, le=3600, description="Seconds that an item or a book may stay in the cache."
    )

    exports_per_account: int = Field(
        2, ge=1, description="Exports that one account may read at once, from all workers together."
    )
    exports_per_worker: int = Field(
        16,
        ge=1,
        description="Exports that one worker sends at once, a MiB or two of memory each; one more "
        "gets 503.",
    )

    token_secret: SecretStr = Field(
        description=f"Secret: key that signs the tokens, at least {MINIMUM_SECRET_BYTES} bytes."
    )
    token_accepted_secret: SecretStr | None = Field(
        None,
        description="Secret: a second key whose tokens are accepted while keys are changed: the "
        "next one before it signs, the former one after.",
    )
    token_issuer: str = Field("harbour", description="Claim `iss` of the tokens.")
    token_audience: str = Field("harbour-api", description="Claim `aud` of the tokens.")
    access_token_lifetime: int = Field(
        900, gt=0, description="Seconds that an access token is valid."
    )
    token_leeway: int = Field(
        10, ge=0, le=60, description="Seconds that the clocks of hosts and clients may differ."
    )
    refresh_token_lifetime: int = Field(
        604_800, gt=0, description="Seconds that a refresh token is valid, and a session unused."
    )
    refresh_grace: int = Field(
        10,
        ge=0,
        le=60,
        description="Seconds in which a refresh token that was just used gives its successor "
        "again, for two refreshes of one browser at once; 0 for never.",
    )
    session_lifetime: int = Field(
        2_592_000, gt=0, description="Seconds after which a session ends, however it was used."
    )
    sessions_per_user: int = Field(
        50,
        ge=1,
        description="Sessions that one account may have; one more ends the one unused longest.",
    )
    reauthentication_window: int = Field(
        300,
        ge=0,
        description="Seconds after a login in which the address may change without the password.",
    )
    verification_lifetime: int = Field(
        86_400, gt=0, description="Seconds that a token for verifying an address is valid."
    )
    password_reset_lifetime: int = Field(
        1_800, gt=0, description="Seconds that a token for resetting a password is valid."
    )
    api_keys_per_user: int = Field(20, ge=1, description="API keys that one account may have.")
    lockout_failures: int = Field(
        5, ge=2, description="Failed logins in a row after which an account is locked."
    )
    lockout_seconds: int = Field(
        1_800, gt=0, description="Seconds that it stays locked; a password reset unlocks it."
    )
    known_client_days: int = Field(
        90,
        ge=0,
        description="Days that a network from which an account logged in is not locked out by "
        "the failures of others.",
    )
    audit_retention_days: int = Field(
        400, ge=90, description="Days that the audit trail is kept; the database keeps 90 at least."
    )
    password_require_classes: bool = Field(
        default=True, description="Whether a password needs upper, lower, digit and symbol."
    )
    password_context_words: list[str] = Field(
        ["harbour"],
        description="JSON list of words that passwords must not be made of: the names of the "
        "service and of its owner.",
    )
    password_threads: int = Field(
        2, ge=1, le=8, description="Passwords that one worker hashes at once, 19 MiB each."
    )
    passwords_waiting: int = Field(
        50,
        ge=1,
        description="Passwords that may wait in one worker to be hashed, some tens of milliseconds "
        "each; one more gets 503.",
    )

    limit_default: RateLimit = Field(
        "600/minute", description="Rate limit of each endpoint for each caller; empty for none."
    )
    limit_login: RateLimit = Field("5/minute", description="Rate limit of logging in.")
    limit_register: RateLimit = Field("3/hour", description="Rate limit of registering.")
    limit_mail: RateLimit = Field(
        "5/hour", description="Rate limit of asking for mails: verification, password reset."
    )
    limit_secret: RateLimit = Field(
        "10/minute",
        description="Rate limit of presenting what could be guessed: the tokens of mails, the "
        "current password.",
    )
    limit_profile: RateLimit = Field(
        "10/hour", description="Rate limit of changing a profile, which tells taken addresses."
    )
    limit_search: RateLimit = Field("30/minute", description="Rate limit of searching.")
    limit_export: RateLimit = Field("10/minute", description="Rate limit of exporting all items.")
    limit_upload: RateLimit = Field("5/minute", description="Rate limit of uploading files.")
    limit_report: RateLimit = Field("10/hour", description="Rate limit of asking for reports.")

    @model_validator(mode="before")
    @classmethod
    def _development_values(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("environment") != "development":
            return values
        if not values.get("token_secret"):
            values = {**values, "token_secret": kept_secret(DEVELOPMENT_FOLDER / "token-secret")}
        if not values.get("file_folder"):
            values = {**values, "file_folder": DEVELOPMENT_FOLDER / "files"}
        return values

    @model_validator(mode="after")
    def _check_secret(self) -> Self:
        for name in ("token_secret", "token_accepted_secret"):
            secret: SecretStr | None = getattr(self, name)
            # An empty secret is false, and no secret.
            if secret is None:
                continue
            if len(secret.get_secret_value().encode()) < MINIMUM_SECRET_BYTES:
                message = f"{name}: it must have at least {MINIMUM_SECRET_BYTES} bytes"
                raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _check_file_folder(self) -> Self:
        folder = self.file_folder
        if self.environment == "production" and folder is not None and not folder.is_absolute():
            # A relative one would be in the folder of a release, and go with it.
            message = "file_folder: APP_FILE_FOLDER must be an absolute path"
            raise ValueError(message)
        return self

    @property
    def serves_documentation(self) -> bool:
        """Whether `/docs`, `/redoc` and `/openapi.json` exist."""
        return self.environment == "development"
