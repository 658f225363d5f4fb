"""What goes out over HTTP."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field


class TaskView(BaseModel):
    """A task of the caller, and where to get what came of it."""

    model_config = ConfigDict(from_attributes=True)

    task_id: int = Field(validation_alias="id")
    kind: str
    status: Literal["queued", "running", "succeeded", "failed"]
    file_id: int | None = Field(description="What came of it; null until then, or when deleted.")
    error: str | None = Field(description="Why it has failed: a code.")
    created_at: datetime
    started_at: datetime | None = Field(description="Of the newest attempt.")
    ended_at: datetime | None
    expires_at: datetime | None = Field(description="When the task and its result are forgotten.")

    @computed_field(description="Path from which that file is downloaded.")  # type: ignore[prop-decorator]
    @property
    def download(self) -> str | None:
        """Where what came of the task is."""
        return None if self.file_id is None else f"/api/v1/files/{self.file_id}"
