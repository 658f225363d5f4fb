"""A kind of host: a Python version and a machine, such as `3.11-x86_64`."""

import dataclasses
import re

from packaging.markers import Marker

from deploy.artifact.errors import ArtifactError

_PATTERN = re.compile(r"3\.(\d{1,2})-([a-z0-9_]+)")
# The oldest C library of a supported distribution is that of Ubuntu 22.04: glibc 2.35 (PEP 600).
_NEWEST_GLIBC = 35
_OLDEST_GLIBC = {"x86_64": 5, "i686": 5}
_OLDEST_GLIBC_ELSEWHERE = 17
# What PEP 600 calls by glibc's version had names of its own before.
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
# A host tells its minor version only; no Python had as many patch releases.
_PATCHES = range(40)


@dataclasses.dataclass(frozen=True, order=True)
class Target:
    """A kind of host.

    Attributes:
        minor: Of Python 3.
        machine: As `platform.machine()` names it.
    """

    minor: int
    machine: str

    def __str__(self) -> str:
        return f"3.{self.minor}-{self.machine}"

    @classmethod
    def parse(cls, text: str) -> "Target":
        """Read a target.

        Raises:
            ArtifactError: The text is none.
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise ArtifactError(f"{text!r} is not a target: use one such as 3.11-x86_64.")
        return cls(int(match[1]), match[2])

    def platforms(self) -> list[str]:
        """Return the platform tags that such a host takes, the best one first."""
        tags = []
        oldest = _OLDEST_GLIBC.get(self.machine, _OLDEST_GLIBC_ELSEWHERE)
        for minor in range(_NEWEST_GLIBC, oldest - 1, -1):
            tags.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _LEGACY:
                tags.append(f"{_LEGACY[minor]}_{self.machine}")
        return [*tags, f"linux_{self.machine}"]

    def may_match(self, marker: Marker) -> bool:
        """Tell whether a marker is true on some host of this kind (PEP 508)."""
        fixed = {
            "python_version": f"3.{self.minor}",
            "platform_machine": self.machine,
            "sys_platform": "linux",
            "platform_system": "Linux",
            "os_name": "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "extra": "",
        }
        full = (f"3.{self.minor}.{patch}" for patch in _PATCHES)
        return any(
            marker.evaluate({**fixed, "python_full_version": text, "implementation_version": text})
            for text in full
        )
