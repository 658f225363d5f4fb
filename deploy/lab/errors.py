"""What ends a lab command with a sentence instead of a trace."""


class LabError(Exception):
    """The lab cannot do what was asked; the message says why and what to do."""
