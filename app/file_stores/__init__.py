"""Where the bytes of files are kept: a folder of this host, or a bucket that hosts share."""

from app.file_stores.contract import (
    FileStore,
    HalfFile,
    LostFileError,
    StoreDownError,
    new_name,
    place_of,
)
from app.file_stores.local import LocalStore
from app.settings import Settings

__all__ = [
    "FileStore",
    "HalfFile",
    "LostFileError",
    "StoreDownError",
    "new_name",
    "open_store",
    "place_of",
]


def open_store(settings: Settings) -> FileStore | None:
    """Return the store of the settings, or nothing when they name none. It connects to nothing."""
    if settings.file_store == "s3":
        # Its library is of no use to those who keep files on their own disk, and not small.
        from app.file_stores.s3 import S3Store  # noqa: PLC0415

        return S3Store(settings)
    if settings.file_store == "local" and settings.file_folder is not None:
        if settings.environment == "development":
            settings.file_folder.mkdir(parents=True, exist_ok=True)
        return LocalStore(settings.file_folder, settings.file_reserve)
    return None
