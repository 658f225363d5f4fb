"""What is taken away of files by the clock."""

from collections.abc import Iterator, Sequence

from app.file_stores import FileStore
from app.files import repository
from app.files.service import Keeper
from app.log import get_logger

_HALF_AFTER = 3600.0
_BATCH = 1000
# What one sweep takes away; the next one takes the rest.
_MOST = 50_000
# More than crashes leave in a while.
_HANDFUL = 20


async def sweep(
    keeper: Keeper, half_after: float = _HALF_AFTER, settled_after: float | None = None
) -> None:
    """Take away what nobody can reach: uploads whose process was killed, files without a record.

    Args:
        keeper: What jobs may use.
        half_after: Seconds after which an upload that does not go on has ended.
        settled_after: Seconds after which a file without a record gets none any more; by default
            what the store says.
    """
    store = keeper.files
    if store is None:
        return
    count = await store.remove_halves(half_after)
    after = store.settles_after if settled_after is None else settled_after
    count += await _remove_orphans(keeper, store, after)
    if count:
        message = f"{count} files that nobody could reach were taken away."
        get_logger().info("files.swept", message=message, count=count)


async def _remove_orphans(keeper: Keeper, store: FileStore, after: float) -> int:
    """Take files without a record away, unless they look like those of somebody else."""
    orphans: list[str] = []
    nameless = count = 0
    async for found in store.list_older(after):
        for batch in _batches(found):
            known = await repository.recorded(keeper.database, batch)
            nobodys = [name for name in batch if name not in known]
            count += len(batch)
            nameless += len(nobodys)
            orphans += nobodys[: _MOST - len(orphans)]
    if nameless > max(_HANDFUL, count // 2):
        message = (
            f"{nameless} of {count} files have no record, and none of them was taken away: if "
            "another installation keeps files in the same place, give each its own APP_S3_PREFIX "
            "or APP_FILE_FOLDER; if the database is from another day, bring back the one that "
            "belongs to the files; if nobody needs them, see `files.unknown` in the runbook."
        )
        get_logger().error("files.unknown", message=message, count=nameless)
        return 0
    for batch in _batches(orphans):
        await store.remove(batch)
    return len(orphans)


def _batches(names: Sequence[str]) -> Iterator[Sequence[str]]:
    return (names[start : start + _BATCH] for start in range(0, len(names), _BATCH))
