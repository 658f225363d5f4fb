"""The settings: documented, frozen, and clear when they are wrong."""

import stat
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from app.errors import SettingsError
from app.settings import DatabaseSettings, Settings, load_settings

URL = "postgresql+asyncpg://harbour@/harbour?host=/run/postgresql"
SECRET = "x" * 32


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "credentials"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    monkeypatch.setenv("APP_DATABASE_URL", URL)
    monkeypatch.setenv("APP_FILE_FOLDER", str(tmp_path))
    return folder


def test_every_field_is_documented() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_secrets_are_secret() -> None:
    found = {
        name
        for name, field in Settings.model_fields.items()
        if "SecretStr" in str(field.annotation)
    }
    assert found == set(Settings.secret_fields())
    for name in found:
        assert (Settings.model_fields[name].description or "").startswith("Secret: ")
    settings = Settings(database_url=URL, token_secret=SecretStr(SECRET), file_store="none")
    assert SECRET not in repr(settings)


def test_settings_cannot_be_changed() -> None:
    settings = Settings(database_url=URL, token_secret=SecretStr(SECRET), file_store="none")
    with pytest.raises(ValidationError):
        settings.release = "other"  # type: ignore[misc]


def test_secrets_come_from_the_files_of_systemd(credentials: Path) -> None:
    (credentials / "app_token_secret").write_text(SECRET + "\n")
    (credentials / "app_database_password").write_text("p@ss:w/rd")
    (credentials / "app_cache_password").write_text("hush")
    settings = load_settings(Settings)
    assert settings.token_secret.get_secret_value() == SECRET
    assert settings.sqlalchemy_url.password == "p@ss:w/rd"
    assert settings.cache_password is not None
    assert settings.cache_password.get_secret_value() == "hush"


def test_a_file_beats_the_environment(credentials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (credentials / "app_token_secret").write_text(SECRET)
    monkeypatch.setenv("APP_TOKEN_SECRET", "y" * 32)
    assert load_settings(Settings).token_secret.get_secret_value() == SECRET


def test_lists_and_numbers_come_from_the_environment(
    credentials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (credentials / "app_token_secret").write_text(SECRET)
    monkeypatch.setenv("APP_ALLOWED_HOSTS", '["a.example", "localhost"]')
    monkeypatch.setenv("APP_LIMIT_LOGIN", "100000/minute")
    monkeypatch.setenv("APP_DATABASE_READ_POOL_SIZE", "9")
    settings = load_settings(Settings)
    assert settings.allowed_hosts == ["a.example", "localhost"]
    assert settings.limit_login == "100000/minute"
    assert settings.database_read_pool_size == 9


def test_a_missing_secret_is_named_in_one_sentence(credentials: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(Settings)
    message = str(caught.value)
    assert "the secret token_secret is missing" in message
    assert "app_token_secret" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("APP_ENVIRONMENT", "staging", "APP_ENVIRONMENT"),
        ("APP_DATABASE_URL", "", "set APP_DATABASE_URL"),
        ("APP_DATABASE_URL", "no url", "not a URL"),
        ("APP_DATABASE_URL", "sqlite+aiosqlite:///x", "production needs PostgreSQL"),
        ("APP_CACHE_URL", "http://x", "unix://"),
        ("APP_FILE_FOLDER", "", "set APP_FILE_FOLDER"),
        ("APP_FILE_FOLDER", "files", "an absolute path"),
        ("APP_LIMIT_LOGIN", "often", "APP_LIMIT_LOGIN"),
        ("APP_DATABASE_READ_POOL_SIZE", "0", "greater than or equal to 1"),
        ("APP_LOG_LEVEL", "LOUD", "APP_LOG_LEVEL"),
    ],
)
def test_a_wrong_value_is_named(
    credentials: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    (credentials / "app_token_secret").write_text(SECRET)
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=said):
        load_settings(Settings)


@pytest.mark.parametrize("name", ["app_token_secret", "app_token_accepted_secret"])
def test_an_empty_signing_key_is_refused(credentials: Path, name: str) -> None:
    (credentials / "app_token_secret").write_text(SECRET)
    (credentials / name).write_text("")
    with pytest.raises(SettingsError, match="at least 32 bytes"):
        load_settings(Settings)


def test_a_short_secret_is_refused_and_not_repeated(credentials: Path) -> None:
    (credentials / "app_token_secret").write_text("too-short-to-sign")
    with pytest.raises(SettingsError, match="at least 32 bytes") as caught:
        load_settings(Settings)
    assert "too-short-to-sign" not in str(caught.value)


def test_a_folder_of_credentials_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match="none, which is not a directory"):
        load_settings(Settings)


def test_a_migration_needs_no_token_secret(credentials: Path) -> None:
    assert load_settings(DatabaseSettings).sqlalchemy_url.host is None


def test_development_needs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APP_ENVIRONMENT", "development")
    first = load_settings(Settings)
    assert first.sqlalchemy_url.get_backend_name() == "sqlite"
    kept = tmp_path / ".slipway" / "token-secret"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert load_settings(Settings).token_secret == first.token_secret


def test_development_makes_the_folder_of_its_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APP_ENVIRONMENT", "development")
    database = load_settings(DatabaseSettings).sqlalchemy_url.database
    assert database is not None
    assert Path(database).parent.is_dir()


def test_production_never_makes_a_secret_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("APP_DATABASE_URL", URL)
    with pytest.raises(SettingsError):
        load_settings(Settings)
    assert not (tmp_path / ".slipway").exists()


def test_a_dotenv_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("APP_RELEASE=from-dotenv\n")
    values: dict[str, Any] = {"database_url": URL, "token_secret": SECRET, "file_store": "none"}
    assert Settings(**values).release == "development"
