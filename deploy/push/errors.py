"""What ends a push with a sentence instead of a trace."""


class PushError(Exception):
    """Something is refused or cannot be done; the message says why and what to do."""
