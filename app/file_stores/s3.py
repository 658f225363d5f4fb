"""Files in a bucket of an S3-compatible store.

A file is sent in parts, of which few are in memory; what was not completed is aborted. Parts of a
process that was killed stay in the store, unseen and paid for: a lifecycle rule of the bucket
(AbortIncompleteMultipartUpload) takes them away.
"""

import asyncio
import atexit
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store as Bucket

from app.file_stores.contract import LostFileError, StoreDownError, is_name, place_of
from app.log import get_logger
from app.settings import Settings

_ROOT = "published"
# The least that S3 takes for a part but the last one; 10,000 of them make 80 GB.
_PART = 8 * 1024 * 1024
_PARTS_AT_ONCE = 2
_RETRIES = 3
_BATCH = 1000
_DAY = 86_400.0
_NOT_FOUND = (NotFoundError, FileNotFoundError)
# Threads of the client give their results back to Python, and then let go of what they hold of it.
# One that waits for that when Python ends is ended in a way that aborts the process, before Python
# 3.14 (https://github.com/python/cpython/issues/87135): a preflight that passed, or a worker that
# stopped well, would end by SIGABRT. They come to it as soon as this thread rests.
_REST_SECONDS = 0.1
atexit.register(time.sleep, _REST_SECONDS)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what the store says into what a caller can act on."""
    try:
        yield
    except (BaseError, OSError) as error:
        kind = type(error).__name__
        get_logger().error("files.store_failed", message=f"The store of files answers {kind}.")
        raise StoreDownError from error


class S3Store:
    """Keeps files in a bucket. Making it connects to nothing."""

    def __init__(self, settings: Settings) -> None:
        # The first of several files of a request is complete when it ends, and is recorded with
        # the last one. What is waited for the bucket comes to the time of the bytes.
        largest = settings.files_per_upload * settings.file_max_size
        self.settles_after = max(_DAY, 2 * largest / settings.upload_bytes_per_second)
        options: dict[str, Any] = {}
        if settings.s3_endpoint:
            options["endpoint"] = settings.s3_endpoint
        if settings.s3_access_key and settings.s3_secret_key is not None:
            options["access_key_id"] = settings.s3_access_key
            options["secret_access_key"] = settings.s3_secret_key.get_secret_value()
        timeout = timedelta(seconds=settings.s3_timeout)
        self._bucket = Bucket(
            settings.s3_bucket,
            prefix=settings.s3_prefix or None,
            region=settings.s3_region,
            client_options={
                "allow_http": settings.s3_endpoint.startswith("http://"),
                "timeout": timeout,
                "connect_timeout": min(timeout, timedelta(seconds=5)),
            },
            retry_config={"max_retries": _RETRIES, "retry_timeout": timeout},
            **options,
        )

    async def check(self) -> None:
        """Make sure that the bucket may be listed, which the sweep needs."""
        with _translated():
            async for _ in obstore.list(self._bucket, f"{_ROOT}/", chunk_size=1):
                return

    async def check_room(self, size: int) -> None:
        """Let everything pass: a bucket has no end."""
        del size

    @asynccontextmanager
    async def begin(self, name: str) -> AsyncIterator["_Writing"]:
        """Begin a file."""
        half = _Writing(self._bucket, _key(name))
        try:
            yield half
        finally:
            # Whoever is cancelled must not leave parts of it.
            await asyncio.shield(half.close())

    async def read(self, name: str, start: int, stop: int) -> bytes:
        """Return a part of a file."""
        if start == stop:
            return b""
        try:
            with _translated():
                data = await obstore.get_range_async(
                    self._bucket, _key(name), start=start, end=stop
                )
        except StoreDownError as error:
            if isinstance(error.__cause__, _NOT_FOUND):
                raise LostFileError from error
            raise
        return bytes(data)

    async def remove(self, names: Sequence[str]) -> None:
        """Take files away."""
        with _translated():
            await obstore.delete_async(self._bucket, [_key(name) for name in names])

    async def list_older(self, seconds: float) -> AsyncIterator[Sequence[str]]:
        """Return what was stored so long ago."""
        before = datetime.now(UTC) - timedelta(seconds=seconds)
        with _translated():
            async for found in obstore.list(self._bucket, f"{_ROOT}/", chunk_size=_BATCH):
                old = [one["path"] for one in found if one["last_modified"] <= before]
                yield [name for path in old if is_name(name := path.rpartition("/")[2])]

    async def remove_halves(self, seconds: float) -> int:
        """Leave them to the lifecycle rule of the bucket."""
        del seconds
        return 0

    def close(self) -> None:
        """Do nothing: its connections end by themselves."""


class _Writing:
    """An object that is being sent."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        self._bucket = bucket
        self._key = key
        self._writer = obstore.open_writer_async(
            bucket, key, buffer_size=_PART, max_concurrency=_PARTS_AT_ONCE
        )
        self._finished = self._published = False

    async def write(self, data: bytes) -> None:
        """Add to it; this waits while enough is under way."""
        with _translated():
            await self._writer.write(data)

    async def finish(self) -> None:
        """Complete the object, whose name nobody knows yet."""
        with _translated():
            await self._writer.close()
        self._finished = True

    async def publish(self) -> None:
        """Let it stay."""
        self._published = True

    async def close(self) -> None:
        """Take away what was not published, as far as the store answers."""
        if self._published:
            return
        try:
            if self._finished:
                await obstore.delete_async(self._bucket, [self._key])
            else:
                await self._writer.__aexit__(StoreDownError, None, None)
        except (BaseError, OSError) as error:
            kind = type(error).__name__
            message = f"A file that was not completed stays in the store, which answers {kind}."
            get_logger().warning("files.left_behind", message=message)


def _key(name: str) -> str:
    return f"{_ROOT}/{place_of(name)}"
