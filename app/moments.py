"""What an instant may be, for every schema."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime


def _in_utc(value: datetime) -> datetime:
    """Return the instant in UTC, where those next to the ends of the calendar have no place."""
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        message = "the moment lies outside of the years 1 to 9999 of UTC"
        raise ValueError(message) from error


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
