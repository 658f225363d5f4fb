"""Where settings come from.

Values come from environment variables `APP_<FIELD>`; secrets come from files `app_<field>` in
`$CREDENTIALS_DIRECTORY`, which systemd fills from `LoadCredential=`
(https://systemd.io/CREDENTIALS/). Other files, such as `.env`, are never read.
"""

import os
import secrets
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.errors import SettingsError

SomeSettings = TypeVar("SomeSettings", bound="EnvironmentSettings")


class EnvironmentSettings(BaseSettings):
    """Settings that come from the environment and from credentials, and from nowhere else."""

    model_config = SettingsConfigDict(env_prefix="APP_", frozen=True, extra="ignore")

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

    @classmethod
    def secret_fields(cls) -> list[str]:
        """Name the fields that hold secrets."""
        secret = {SecretStr, SecretStr | None}
        return [name for name, field in cls.model_fields.items() if field.annotation in secret]


def kept_secret(path: Path) -> str:
    """Return the secret kept in a file that only its owner reads, made at the first call."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except FileExistsError:
        return path.read_text()
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(48))
    return path.read_text()


def _sentence(kind: type[EnvironmentSettings], error: ValidationError) -> str:
    """Say in one sentence what is wrong with the settings, without any value of theirs."""
    problems = []
    for problem in error.errors(include_input=False, include_context=False):
        field = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "missing" and field in kind.secret_fields():
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
        kind: which class of settings.

    Raises:
        SettingsError: with one sentence that names every setting that is missing or wrong.
    """
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if directory and not Path(directory).is_dir():
        raise SettingsError(f"$CREDENTIALS_DIRECTORY names {directory}, which is not a directory.")
    try:
        return kind(_secrets_dir=directory or None)
    except ValidationError as error:
        raise SettingsError(_sentence(kind, error)) from None
