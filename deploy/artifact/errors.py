"""What ends a build with a sentence instead of a trace."""


class ArtifactError(Exception):
    """The artifact cannot be built; the message says why and what to do."""
