"""The settings of files; `app.settings` makes them part of all settings."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from app.settings_source import EnvironmentSettings

MIB = 1024 * 1024
GIB = 1024 * MIB
# No part is one that a store or a tool reads as a way up.
_PREFIX = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)


def _checked_endpoint(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in {"http", "https"} or not parts.netloc):
        message = "it must begin with https:// and the name of a host"
        raise ValueError(message)
    return value.rstrip("/")


def _checked_prefix(value: str) -> str:
    if value and not _PREFIX.fullmatch(value):
        message = "it may have letters, digits, `.`, `_`, `-`, and a slash between two of its parts"
        raise ValueError(message)
    return value


def _checked_redirect(value: str) -> str:
    if value and not (value.startswith("/") and value.endswith("/") and value.isprintable()):
        message = "it must begin and end with a slash"
        raise ValueError(message)
    return value


class FileSettings(EnvironmentSettings):
    """Where files are kept, and how much of them."""

    file_store: Literal["local", "s3", "none"] = Field(
        "local",
        description="Where files are kept: `local` in a folder of this host, `s3` in a bucket, "
        "which several hosts share, or `none`: then everything under `/files` answers 404.",
    )
    file_folder: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = Field(
        None,
        description="The folder of `local`, outside of the releases; development has one of its "
        "own. Its group may read what is published in it, if it has the setgid bit.",
    )
    file_max_size: int = Field(
        GIB, gt=0, description="Largest file that is taken, in bytes; Nginx must let it through."
    )
    files_per_upload: int = Field(10, ge=1, le=100, description="Files that one request may bring.")
    file_quota: int = Field(
        5 * GIB, gt=0, description="Bytes that the files of one account may have together."
    )
    files_per_account: int = Field(10_000, ge=1, description="Files that one account may have.")
    uploads_per_account: int = Field(
        3, ge=1, description="Uploads that one account may have under way, on all workers together."
    )
    upload_bytes_per_second: float = Field(
        65_536.0,
        gt=0,
        description="Bytes a second that an upload must bring on average: what is behind by half a "
        "minute is ended with 408.",
    )
    s3_uploads_per_worker: int = Field(
        6,
        ge=1,
        description="Uploads to a bucket that one worker takes at once, up to 32 MiB of memory "
        "each; one more gets 503.",
    )
    downloads_per_worker: int = Field(
        64,
        ge=1,
        description="Downloads that one worker sends itself at once, a MiB or two of memory each; "
        "one more gets 503. Those that Nginx sends do not count.",
    )
    file_reserve: int = Field(
        512 * MIB,
        ge=0,
        description="Bytes that stay free on the disk of `file_folder`: what would need them is "
        "refused with 507.",
    )
    file_redirect: Annotated[str, AfterValidator(_checked_redirect)] = Field(
        "",
        description="Address of `published/` in Nginx, such as `/.files/`, for X-Accel-Redirect; "
        "empty: the service sends files itself.",
    )
    s3_endpoint: Annotated[str, AfterValidator(_checked_endpoint)] = Field(
        "", description="URL of the S3-compatible store; empty for that of AWS in the region."
    )
    s3_bucket: str = Field("", description="Bucket of the store, which must be there.")
    s3_region: str = Field("us-east-1", description="Region of the bucket.")
    s3_prefix: Annotated[str, AfterValidator(_checked_prefix)] = Field(
        "",
        description="What all keys in the bucket begin with, before a slash; no other installation "
        "may have the same one, because each takes away what it has no record of.",
    )
    s3_access_key: str = Field(
        "", description="Name of the key for the store; empty for the role of an AWS host."
    )
    s3_secret_key: SecretStr | None = Field(None, description="Secret: the key for the store.")
    s3_timeout: float = Field(
        30.0, gt=0, description="Seconds that one request to the store may take."
    )

    @model_validator(mode="after")
    def _check_files(self) -> Self:
        if self.file_store == "local" and self.file_folder is None:
            message = "file_folder: set APP_FILE_FOLDER, or APP_FILE_STORE to s3 or none"
            raise ValueError(message)
        if self.file_store == "s3" and not self.s3_bucket:
            message = "s3_bucket: set APP_S3_BUCKET to the bucket that keeps the files"
            raise ValueError(message)
        if self.s3_access_key and self.s3_secret_key is None:
            message = (
                "s3_secret_key: put it into the file app_s3_secret_key in $CREDENTIALS_DIRECTORY, "
                "or leave APP_S3_ACCESS_KEY empty"
            )
            raise ValueError(message)
        return self
