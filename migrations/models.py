"""What the schema should be: the tables of every feature."""

import app.audit.models
import app.books.models
import app.files.models
import app.items.models
import app.jobs.models
import app.keys.models
import app.lockout.models
import app.recovery.models
import app.sessions.models
import app.tasks.models
import app.users.models  # noqa: F401
from app.db import Base

metadata = Base.metadata
