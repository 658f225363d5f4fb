"""What the schema should be: the tables of every feature."""

import app.audit.models
import app.items.models
import app.keys.models
import app.lockout.models
import app.recovery.models
import app.sessions.models
import app.users.models  # noqa: F401
from app.db import Base

metadata = Base.metadata
