"""What goes in and out over HTTP."""

from datetime import datetime

from pydantic import BaseModel, Field


class FileView(BaseModel):
    """A file as its owner sees it."""

    id: int
    filename: str
    size: int = Field(description="In bytes.")
    content_type: str = Field(description="Made out from the content and the end of the name.")
    sha256: str = Field(description="Checksum of the content, hexadecimal.")
    created_at: datetime


class UploadedFiles(BaseModel):
    """Several files that were uploaded together."""

    uploaded: int
    files: list[FileView]


class FilePage(BaseModel):
    """One page of the caller's files."""

    files: list[FileView]
    total: int
    skip: int
    limit: int
    used: int = Field(description="Bytes that all files of the account have together.")
    quota: int = Field(description="Bytes that they may have.")
