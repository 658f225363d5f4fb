"""Taking away what has piled up, a bounded number of rows in each transaction."""

from app.pruning.repository import delete_some
from app.pruning.service import BATCH, until_none_is_left

__all__ = ["BATCH", "delete_some", "until_none_is_left"]
