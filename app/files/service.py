"""What can be done with files."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from app.db import Database, after_commit
from app.errors import (
    InvalidInputError,
    NotAuthenticatedError,
    NotFoundError,
    PreconditionFailedError,
)
from app.file_stores import FileStore, StoreDownError
from app.files import names, repository
from app.files.content import kind_of
from app.files.form import Part
from app.files.intake import (
    Bounds,
    FileTooLargeError,
    Intake,
    NewFile,
    QuotaError,
    TooManyFilesError,
    intake,
)
from app.log import get_logger
from app.owners import lock_account
from app.settings import Settings

# What a form adds to each of its files: a boundary and a few headers.
_AROUND = 16_384
# A client that reads slowly keeps two of them in memory.
_BLOCK = 512 * 1024


class FilesOffError(NotFoundError):
    """This installation keeps no files."""

    code = "files_off"
    message = "This installation keeps no files."


class NoFileError(NotFoundError):
    """The caller has no such file."""

    code = "file_not_found"
    message = "You have no such file."


class OtherFileError(PreconditionFailedError):
    """The caller's file is not the one that was asked for."""

    message = "The file is not the one that was asked for."


class OwnerGoneError(NotAuthenticatedError):
    """The account was closed while its files came in."""

    message = "The account has been closed."


class Keeper(Protocol):
    """What a process holds open, of which files need this."""

    @property
    def settings(self) -> Settings:
        """The settings of the service."""

    @property
    def database(self) -> Database:
        """The ways to the database."""

    @property
    def files(self) -> FileStore | None:
        """Where files are kept."""


@dataclass(frozen=True)
class StoredFile:
    """A file that is kept."""

    id: int
    owner_id: int
    stored_as: str
    filename: str
    content_type: str
    size: int
    sha256: str
    created_at: datetime


@dataclass(frozen=True)
class Upload:
    """A form that brings files.

    Attributes:
        field: Which its files are in.
        most: How many there may be.
        announced: Bytes of the form, if the client says so; otherwise 0.
        parts: What is in it.
    """

    field: str
    most: int
    announced: int
    parts: AsyncIterator[Part | bytes]


def largest_form(settings: Settings, most: int) -> int:
    """Return how many bytes a form with so many files may have."""
    return most * (settings.file_max_size + _AROUND)


def store_of(keeper: Keeper) -> FileStore:
    """Return where files are kept.

    Raises:
        FilesOffError: when they are kept nowhere.
    """
    if keeper.files is None:
        raise FilesOffError
    return keeper.files


async def upload(keeper: Keeper, owner_id: int, form: Upload) -> list[StoredFile]:
    """Keep the files of a form, all of them or none.

    Raises:
        FileTooLargeError: when one is, or the form as a whole.
        InvalidInputError: when there is no file in the field, too many, or something else.
        MalformedFormError: when the form is none, or ends early.
        NotAllowedError: when one is of a kind that is not taken.
        QuotaError, TooManyFilesError: when the account has no room for them.
        StorageFullError, StoreDownError, FilesOffError: when they cannot be kept.
    """
    store = store_of(keeper)
    bounds = await _bounds(keeper, owner_id)
    if form.announced > largest_form(keeper.settings, form.most):
        raise FileTooLargeError(bounds.max_size)
    if form.announced > bounds.room + form.most * _AROUND:
        raise QuotaError(bounds.quota)
    await store.check_room(form.announced)
    async with intake(store, bounds) as taken:
        await _read(form, taken)
        new = await taken.publish()
        async with keeper.database.writing() as session:
            kept = await _record(keeper.settings, session, owner_id, new)
            # From here on the database alone knows whether it has them: what it has not is swept.
            taken.settle()
    return kept


async def publish(  # noqa: PLR0913 - what a file is
    keeper: Keeper,
    session: AsyncSession,
    *,
    owner_id: int,
    filename: str,
    content_type: str,
    chunks: AsyncIterator[bytes],
) -> StoredFile:
    """Keep a file that the service has made for an account.

    Args:
        keeper: Resources of a request or of a job.
        session: The transaction in which it is recorded. If that is rolled back nobody sees the
            file, and it is swept after a while.
        owner_id: Whose it is; it counts in the quota.
        filename: What it is called when it is saved.
        content_type: Its media type.
        chunks: Its bytes, of which few need to be in memory.

    Raises:
        FileTooLargeError, QuotaError, TooManyFilesError, StorageFullError, StoreDownError,
            FilesOffError: when it cannot be kept.
        OwnerGoneError: when the account has been closed.
    """
    store, bounds = store_of(keeper), await _bounds(keeper, owner_id)
    async with intake(store, bounds) as taken:
        await taken.begin(names.clean(filename), content_type)
        async for chunk in chunks:
            await taken.add(chunk)
        new = await taken.publish()
        (kept,) = await _record(keeper.settings, session, owner_id, new)
    return kept


async def list_files(
    keeper: Keeper, owner_id: int, skip: int, limit: int
) -> tuple[list[StoredFile], int, int]:
    """Return one page of an account's files, the number of all, and the bytes of all."""
    store_of(keeper)
    rows, total = await repository.list_files(keeper.database, owner_id, skip, limit)
    used = await repository.used(keeper.database, owner_id)
    return [_stored(row) for row in rows], total, used.size


async def find(keeper: Keeper, owner_id: int, file_id: int) -> StoredFile:
    """Return what is known of a file.

    Raises:
        NoFileError: when the account has no such file.
    """
    store_of(keeper)
    row = await repository.find_file(keeper.database, owner_id, file_id)
    if row is None:
        raise NoFileError
    return _stored(row)


async def content(keeper: Keeper, file: StoredFile, start: int, stop: int) -> AsyncIterator[bytes]:
    """Return the bytes from one place up to another, in pieces; the first is there already.

    Raises:
        LostFileError, StoreDownError: when they cannot be read.
    """
    store = store_of(keeper)
    first = await store.read(file.stored_as, start, min(start + _BLOCK, stop))

    async def pieces() -> AsyncIterator[bytes]:
        yield first
        for place in range(start + _BLOCK, stop, _BLOCK):
            yield await store.read(file.stored_as, place, min(place + _BLOCK, stop))

    return pieces()


async def delete(keeper: Keeper, session: AsyncSession, owner_id: int, file_id: int) -> None:
    """Take a file away: at once for its owner, and from the store when that is in the database.

    Raises:
        NoFileError: when the account has no such file.
    """
    store = store_of(keeper)
    stored_as = await repository.delete_file(session, owner_id, file_id)
    if stored_as is None:
        raise NoFileError

    async def remove() -> None:
        try:
            await store.remove([stored_as])
        except StoreDownError:
            message = "A file that was deleted stays in the store until the next sweep."
            get_logger().warning("files.left_behind", message=message)

    after_commit(session, remove)


async def _bounds(keeper: Keeper, owner_id: int) -> Bounds:
    settings = keeper.settings
    used = await repository.used(keeper.database, owner_id)
    if used.files >= settings.files_per_account:
        raise TooManyFilesError(settings.files_per_account)
    return Bounds(settings.file_max_size, settings.file_quota - used.size, settings.file_quota)


async def _read(form: Upload, taken: Intake) -> None:
    count = 0
    async for event in form.parts:
        if isinstance(event, bytes):
            await taken.add(event)
            continue
        if event.field != form.field or event.filename is None:
            message = f"The form may have files in the field {form.field} only."
            raise InvalidInputError(form.field, message)
        count += 1
        if count > form.most:
            files = "one file" if form.most == 1 else f"{form.most} files"
            raise InvalidInputError(form.field, f"A form may have {files} at most.")
        filename = names.clean(event.filename)
        kind = kind_of(filename)
        await taken.begin(filename, kind.content_type, kind)
    if not count:
        raise InvalidInputError(form.field, f"There is no file in the field {form.field}.")


async def _record(
    settings: Settings, session: AsyncSession, owner_id: int, new: Sequence[NewFile]
) -> list[StoredFile]:
    # Two uploads at once would both find room for one more.
    if not await lock_account(session, owner_id):
        raise OwnerGoneError
    used = await repository.used_under_lock(session, owner_id)
    if used.size + sum(file.size for file in new) > settings.file_quota:
        raise QuotaError(settings.file_quota)
    if used.files + len(new) > settings.files_per_account:
        raise TooManyFilesError(settings.files_per_account)
    values = [{"owner_id": owner_id, **asdict(file)} for file in new]
    return [_stored(await repository.add_file(session, one)) for one in values]


def _stored(row: Sequence[Any]) -> StoredFile:
    return StoredFile(*row[: len(repository.COLUMNS)])
