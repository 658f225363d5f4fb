"""Files of accounts: uploaded, or made by the service."""

from app.files.jobs import sweep
from app.files.service import delete, publish, store_of

__all__ = ["delete", "publish", "store_of", "sweep"]
