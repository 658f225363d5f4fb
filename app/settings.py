"""Every setting of the service, read once at the start.

Values come from environment variables `APP_<FIELD>`; secrets come from files `app_<field>` in
`$CREDENTIALS_DIRECTORY`, which systemd fills from `LoadCredential=`
(https://systemd.io/CREDENTIALS/). Other files, such as `.env`, are never read.
"""

import os
import secrets
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from limits import parse_many
from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from app.errors import SettingsError

MINIMUM_SECRET_BYTES = 32
DEVELOPMENT_FOLDER = Path(".slipway")
SECRET_FIELDS = ("token_secret", "database_password", "cache_password")


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


class DatabaseSettings(BaseSettings):
    """What a migration needs to know: the environment and the way to the database."""

    model_config = SettingsConfigDict(env_prefix="APP_", frozen=True, extra="ignore")

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

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Leave out `.env`: what a working directory holds must not change a service."""
        del settings_cls, dotenv_settings
        return init_settings, file_secret_settings, env_settings

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


class Settings(DatabaseSettings):
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
        1_048_576, gt=0, description="Largest request body that is read, in bytes."
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

    token_secret: SecretStr = Field(
        description=f"Secret: key that signs the tokens, at least {MINIMUM_SECRET_BYTES} bytes."
    )
    token_issuer: str = Field("harbour", description="Claim `iss` of the tokens.")
    token_audience: str = Field("harbour-api", description="Claim `aud` of the tokens.")
    access_token_lifetime: int = Field(
        900, gt=0, description="Seconds that an access token is valid."
    )
    password_require_classes: bool = Field(
        default=True, description="Whether a password needs upper, lower, digit and symbol."
    )
    password_threads: int = Field(
        2, ge=1, le=8, description="Passwords that one worker hashes at once, 19 MiB each."
    )

    limit_default: RateLimit = Field(
        "600/minute", description="Rate limit of each endpoint for each caller; empty for none."
    )
    limit_login: RateLimit = Field("5/minute", description="Rate limit of logging in.")
    limit_register: RateLimit = Field("3/hour", description="Rate limit of registering.")
    limit_search: RateLimit = Field("30/minute", description="Rate limit of searching.")

    @model_validator(mode="before")
    @classmethod
    def _development_secret(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("environment") == "development" and not values.get("token_secret"):
            values = {**values, "token_secret": _kept_secret(DEVELOPMENT_FOLDER / "token-secret")}
        return values

    @model_validator(mode="after")
    def _check_secret(self) -> Self:
        if len(self.token_secret.get_secret_value().encode()) < MINIMUM_SECRET_BYTES:
            message = f"token_secret: it must have at least {MINIMUM_SECRET_BYTES} bytes"
            raise ValueError(message)
        return self

    @property
    def serves_documentation(self) -> bool:
        """Whether `/docs`, `/redoc` and `/openapi.json` exist."""
        return self.environment == "development"


SomeSettings = TypeVar("SomeSettings", bound=DatabaseSettings)


def _kept_secret(path: Path) -> str:
    """Return the secret kept in a file that only its owner reads, made at the first call."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return path.read_text()
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(48))
    return path.read_text()


def _sentence(error: ValidationError) -> str:
    """Say in one sentence what is wrong with the settings, without any value of theirs."""
    problems = []
    for problem in error.errors(include_input=False, include_context=False):
        field = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "missing" and field in SECRET_FIELDS:
            problems.append(
                f"the secret {field} is missing: put it into the file app_{field} "
                "in $CREDENTIALS_DIRECTORY (LoadCredential= of the unit)"
            )
        else:
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{f'APP_{field.upper()}: ' if field else ''}{message}")
    return "Settings are not usable: " + "; ".join(problems) + "."


def load_settings(kind: type[SomeSettings]) -> SomeSettings:
    """Read the settings from the environment and the credentials.

    Args:
        kind: `Settings`, or `DatabaseSettings` where no more is needed.

    Raises:
        SettingsError: with one sentence that names every setting that is missing or wrong.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory and not Path(directory).is_dir():
        raise SettingsError(f"$CREDENTIALS_DIRECTORY names {directory}, which is not a directory.")
    try:
        return kind(_secrets_dir=directory or None)
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from None
