"""What the inventory of production makes of the settings of our own service."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from app.settings import Settings
from tests.roles.inventory_values import values
from tests.roles.plays import ROOT

PASSED_ON = (
    *("nginx_client_max_body_size", "nginx_upload_paths", "nginx_upload_max_body_size"),
    "nginx_download_paths",
)
WANTED = (
    *("app_environment", "app_credentials", "app_processes", "release_console_command"),
    *("app_data_folders", "app_web_addresses", "nginx_download_folders", *PASSED_ON),
)


def settings(
    folder: Path, host: str = "web1", wanted: Sequence[str] = WANTED, **said: Any
) -> dict[str, Any]:
    """What the roles get on a host of production, whose inventory says something more."""
    more = folder / "more.json"
    more.write_text(json.dumps({"balancer": {"hosts": {"lb1": {}}}} if host == "lb1" else {}))
    return values(folder, [ROOT / "inventories/production", more], host, wanted, **said)


def test_mail_is_not_sent_until_a_server_is_named(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert not [name for name in found["app_environment"] if "MAIL" in name]
    # The service has no pages for people: mails show their tokens until somebody says where.
    assert "APP_PUBLIC_URL" not in found["app_environment"]
    assert found["app_credentials"].keys() == {"app_token_secret"}
    assert found["app_processes"]["worker"]["addresses"] == []
    assert found["release_console_command"] == "python -m app.console"


def test_the_worker_alone_reaches_the_mail_server(tmp_path: Path) -> None:
    found = settings(
        tmp_path,
        harbour_mail_host="smtp.example.com",
        harbour_mail_addresses=["192.0.2.25/32"],
        harbour_mail_username="harbour",
        vault_mail_password="of-the-mail-server",
    )
    environment = found["app_environment"]
    assert {name: str(value) for name, value in environment.items() if "MAIL" in name} == {
        "APP_MAIL_HOST": "smtp.example.com",
        "APP_MAIL_PORT": "587",
        "APP_MAIL_SECURITY": "starttls",
        "APP_MAIL_USERNAME": "harbour",
        "APP_MAIL_FROM": "no-reply@harbour.example.com",
    }
    assert found["app_credentials"]["app_mail_password"] == "of-the-mail-server"
    assert found["app_processes"]["worker"]["addresses"] == ["192.0.2.25/32"]


def test_errors_are_reported_to_a_tracker_that_web_and_worker_reach(tmp_path: Path) -> None:
    usual = settings(tmp_path)
    # Without a DSN there is nobody to reach.
    assert settings(tmp_path, harbour_sentry_addresses=["192.0.2.40/32"]) == usual
    assert not [name for name in usual["app_environment"] if "SENTRY" in name]
    found = settings(
        tmp_path,
        vault_sentry_dsn="https://key@errors.example.com/7",
        harbour_sentry_addresses=["192.0.2.40/32"],
    )
    assert found["app_web_addresses"] == ["192.0.2.40/32"]
    assert found["app_processes"]["worker"]["addresses"] == ["192.0.2.40/32"]
    assert found["app_credentials"]["app_sentry_dsn"] == "https://key@errors.example.com/7"
    assert found["app_environment"]["APP_SENTRY_ENVIRONMENT"] == "production"
    assert "errors.example.com" not in str(found["app_environment"])


def test_a_second_signing_key_is_accepted_while_it_is_there(tmp_path: Path) -> None:
    found = settings(tmp_path, vault_token_accepted_secret="the-other")
    assert found["app_credentials"]["app_token_accepted_secret"] == "the-other"


def of_files(found: dict[str, Any]) -> dict[str, str]:
    """The settings of the service that are about files."""
    return {
        name.removeprefix("APP_"): str(value)
        for name, value in found["app_environment"].items()
        if name.startswith(("APP_FILE", "APP_S3"))
    }


def test_nginx_takes_bodies_that_the_service_takes(tmp_path: Path) -> None:
    found = settings(tmp_path)
    default = Settings.model_fields["max_body_size"].default
    assert int(found["nginx_client_max_body_size"]) == default


def test_files_lie_in_a_folder_of_the_host_that_nginx_may_read(tmp_path: Path) -> None:
    found = settings(tmp_path, harbour_file_max_size=2**20, harbour_files_per_upload=3)
    assert of_files(found) == {
        "FILE_STORE": "local",
        "FILE_MAX_SIZE": "1048576",
        "FILES_PER_UPLOAD": "3",
        "FILE_QUOTA": "5368709120",
        "FILE_FOLDER": "/srv/harbour/data/files",
        "FILE_RESERVE": "536870912",
        "FILE_REDIRECT": "/.files/",
    }
    assert found["app_data_folders"] == [{"path": "files", "readers": "web"}]
    assert found["nginx_download_folders"] == {"/.files/": "/srv/harbour/data/files/published"}
    assert found["nginx_upload_paths"] == ["/api/v1/files/upload"]
    # Nginx and the service agree: what one lets through the other takes.
    assert int(found["nginx_upload_max_body_size"]) == 3 * (2**20 + 2**14)
    assert found["app_web_addresses"] == []


def test_files_in_a_store_of_another_host_need_the_way_there(tmp_path: Path) -> None:
    found = settings(
        tmp_path,
        harbour_files="s3",
        harbour_s3_endpoint="https://s3.example.com",
        harbour_s3_bucket="harbour",
        harbour_s3_region="eu-central-1",
        harbour_s3_access_key="AKIA",
        harbour_s3_addresses=["198.51.100.0/24"],
        vault_s3_secret_key="of-the-store",
    )
    assert of_files(found) == {
        "FILE_STORE": "s3",
        "FILE_MAX_SIZE": "1073741824",
        "FILES_PER_UPLOAD": "10",
        "FILE_QUOTA": "5368709120",
        "S3_ENDPOINT": "https://s3.example.com",
        "S3_BUCKET": "harbour",
        "S3_REGION": "eu-central-1",
        "S3_PREFIX": "harbour-production",
        "S3_ACCESS_KEY": "AKIA",
    }
    assert found["app_credentials"]["app_s3_secret_key"] == "of-the-store"
    assert found["app_web_addresses"] == ["198.51.100.0/24"]
    assert found["app_processes"]["worker"]["addresses"] == ["198.51.100.0/24"]
    assert found["app_data_folders"] == []
    assert found["nginx_download_folders"] == {}


def test_a_key_by_the_role_of_the_host_needs_the_way_to_who_gives_it(tmp_path: Path) -> None:
    store: Any = {"harbour_s3_bucket": "harbour", "harbour_s3_addresses": ["198.51.100.0/24"]}
    found = settings(tmp_path, harbour_files="s3", **store)
    needed = ["198.51.100.0/24", "169.254.169.254/32", "fd00:ec2::254/128"]
    assert found["app_web_addresses"] == needed
    assert found["app_processes"]["worker"]["addresses"] == needed
    assert "app_s3_secret_key" not in found["app_credentials"]
    assert settings(tmp_path, **store)["app_web_addresses"] == []


def test_a_service_without_files_says_so(tmp_path: Path) -> None:
    found = settings(tmp_path, harbour_files="none")
    assert of_files(found) == {"FILE_STORE": "none"}
    assert found["app_data_folders"] == []
    assert found["nginx_upload_paths"] == []


def test_a_balancer_passes_on_what_the_hosts_take(tmp_path: Path) -> None:
    for said in ({}, {"harbour_files": "none"}):
        passed = settings(tmp_path, "lb1", PASSED_ON, **said)
        served = settings(tmp_path, "web1", PASSED_ON, **said)
        assert passed == served
        assert bool(passed["nginx_upload_paths"]) == (not said)


def test_the_service_takes_the_messages_that_its_server_reads(tmp_path: Path) -> None:
    assert "APP_WEBSOCKET_MESSAGE_BYTES" not in settings(tmp_path)["app_environment"]
    found = settings(tmp_path, app_websocket_bytes=1000)
    assert int(found["app_environment"]["APP_WEBSOCKET_MESSAGE_BYTES"]) == 1000


def test_what_is_said_nowhere_agrees_as_well() -> None:
    defaults = yaml.safe_load((ROOT / "roles/app/defaults/main.yml").read_text())
    assert (
        Settings.model_fields["websocket_message_bytes"].default
        == (defaults["app_websocket_bytes"])
    )
