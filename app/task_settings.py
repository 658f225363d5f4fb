"""The settings of tasks; `app.settings` makes them part of all settings."""

from pydantic import Field

from app.settings_source import EnvironmentSettings


class TaskSettings(EnvironmentSettings):
    """What an account may ask for at once, and how long the results stay."""

    open_tasks_per_user: int = Field(
        3, ge=1, description="Tasks, such as reports, that one account may have under way."
    )
    task_result_days: int = Field(
        7, ge=1, description="Days after its end that a task and its result are kept."
    )
