"""Files over HTTP."""

import functools
from typing import Annotated, Any

from fastapi import Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.access import require_scopes
from app.accounts import Identity
from app.conditional import NOT_MODIFIED, has, wanted
from app.dependencies import Transaction, WorkerResources
from app.file_stores import place_of
from app.files import service
from app.files.content import KINDS
from app.files.form import MalformedFormError, boundary_of, read_form
from app.files.names import attachment
from app.files.pace import in_time
from app.files.ranges import UnsatisfiableError, wanted_range
from app.files.schemas import FilePage, FileView, UploadedFiles
from app.files.service import StoredFile, Upload
from app.rate_limits import limited
from app.resources import Resources
from app.routing import API, Identifier, Limit, Skip, errors, router_of
from app.streams import Stream

router = router_of(f"{API}/files", "files")

Reader = Annotated[Identity, require_scopes("profile:read")]
Writer = Annotated[Identity, require_scopes("profile:write")]

_BINARY = {"type": "string", "format": "binary"}
_CONTENT = {
    "content": {kind.content_type: {"schema": _BINARY} for kind in KINDS.values()},
}
_UPLOAD: dict[str, Any] = {"status_code": 201, "responses": errors(404, 408, 409, 415, 507)}


def _form(field: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return what OpenAPI says of a body that the framework does not read."""
    whole = {"type": "object", "required": [field], "properties": {field: schema}}
    content = {"multipart/form-data": {"schema": whole}}
    return {"requestBody": {"required": True, "content": content}}


@router.post("/upload", **_UPLOAD, openapi_extra=_form("file", _BINARY))
@limited("upload")
async def upload_file(request: Request, identity: Writer, resources: WorkerResources) -> FileView:
    """Keep a file; what it is, its content decides together with the end of its name."""
    (file,) = await _upload(request, identity, resources, "file", 1)
    return _view(file)


@router.post(
    "/upload-multiple",
    **_UPLOAD,
    openapi_extra=_form("files", {"type": "array", "items": _BINARY}),
)
@limited("upload")
async def upload_files(
    request: Request, identity: Writer, resources: WorkerResources
) -> UploadedFiles:
    """Keep several files, all of them or none."""
    most = resources.settings.files_per_upload
    files = [_view(file) for file in await _upload(request, identity, resources, "files", most)]
    return UploadedFiles(uploaded=len(files), files=files)


@router.get("", response_model=FilePage, responses=errors(404))
async def list_files(
    identity: Reader, resources: WorkerResources, skip: Skip = 0, limit: Limit = 20
) -> FilePage:
    """Return one page of the caller's files, oldest first."""
    files, total, used = await service.list_files(resources, identity.account.id, skip, limit)
    return FilePage(
        files=[_view(file) for file in files],
        total=total,
        skip=skip,
        limit=limit,
        used=used,
        quota=resources.settings.file_quota,
    )


@router.get(
    "/{file_id}",
    response_class=Response,
    responses={200: _CONTENT, 206: _CONTENT, **NOT_MODIFIED, **errors(404, 412, 416)},
)
async def download_file(
    request: Request, identity: Reader, resources: WorkerResources, file_id: Identifier
) -> Response:
    """Return a file of the caller's, to be saved; a part of it when one is asked for."""
    file = await service.find(resources, identity.account.id, file_id)
    tags = wanted(request)
    if tags is not None and file.sha256 not in tags:
        raise service.OtherFileError
    headers = {
        "Content-Disposition": attachment(file.filename),
        "ETag": f'"{file.sha256}"',
        "Cache-Control": "private, no-cache",
    }
    if has(request, file.sha256):
        del headers["Content-Disposition"]
        return Response(status_code=304, headers=headers)
    part = _wanted_part(request, file)
    settings = resources.settings
    # Nginx does not know the tag of what it sends, and would refuse the one that was asked for.
    if settings.file_store == "local" and settings.file_redirect and tags is None:
        # It sends the file, and sees to parts of it.
        headers["X-Accel-Redirect"] = f"{settings.file_redirect}{place_of(file.stored_as)}"
        return Response(headers=headers, media_type=file.content_type)
    return _sent(resources, file, part, headers)


@router.delete("/{file_id}", status_code=204, responses=errors(404))
async def delete_file(
    file_id: Identifier, identity: Writer, session: Transaction, resources: WorkerResources
) -> None:
    """Take a file of the caller's away."""
    await service.delete(resources, session, identity.account.id, file_id)


async def _upload(
    request: Request, identity: Identity, resources: Resources, field: str, most: int
) -> list[StoredFile]:
    boundary = boundary_of(request.headers.get("content-type", ""))
    if boundary is None:
        raise HTTPException(415, "The body must be a form of the type multipart/form-data.")
    request.state.body.widen(service.largest_form(resources.settings, most))
    length = request.headers.get("content-length", "")
    announced = int(length) if length.isdecimal() else 0
    body = in_time(request.stream(), resources.settings.upload_bytes_per_second)
    form = Upload(field, most, announced, read_form(boundary, body))
    try:
        async with resources.transfers.uploading(identity.account.id):
            return await service.upload(resources, identity.account.id, form)
    except ClientDisconnect as error:
        # Nobody reads the answer; this is how it is counted and logged.
        raise MalformedFormError from error


def _wanted_part(request: Request, file: StoredFile) -> tuple[int, int] | None:
    """Return the part of a file that is asked for.

    Where Nginx refused it, the answer would come as the file itself, to be saved under its name.
    """
    tag = f'"{file.sha256}"'
    # Of a head there are no parts (RFC 9110, section 14.2).
    asked = request.headers.get("range") if request.method == "GET" else None
    if request.headers.get("if-range", tag) != tag:
        asked = None
    try:
        return wanted_range(asked, file.size)
    except UnsatisfiableError:
        raise HTTPException(416, headers={"Content-Range": f"bytes */{file.size}"}) from None


def _sent(
    resources: Resources,
    file: StoredFile,
    part: tuple[int, int] | None,
    headers: dict[str, str],
) -> Response:
    """Return a file, or a part of it, to be sent without Nginx."""
    start, stop = part or (0, file.size)
    headers |= {
        "Accept-Ranges": "bytes",
        "Content-Length": str(stop - start),
        # Nginx would write what it gets faster than the client does onto its disk.
        "X-Accel-Buffering": "no",
    }
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
    opened = functools.partial(service.content, resources, file, start, stop)
    status = 200 if part is None else 206
    return Stream(opened, resources.transfers.downloading, headers, file.content_type, status)


def _view(file: StoredFile) -> FileView:
    return FileView.model_validate(file, from_attributes=True)
