"""Asked of a host before a release, on the standard input of its own Python (3.10 or newer).

Prints what a build and a copy have to know, as JSON: the kind of the host, the version that is
live, where the artifact of a version belongs, the checksum of what is there already, and the number
of the record of the fleet.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

_BLOCK = 1 << 20
_QUESTION = "import platform, sys; print('%d.%d-%s' % (*sys.version_info[:2], platform.machine()))"


def ask(app: str, version: str, settings: Path, program: Path) -> dict[str, "str | int | None"]:
    """Return the answers.

    Raises:
        OSError, subprocess.CalledProcessError, ValueError, LookupError: The host is not prepared.
    """
    values = json.loads(settings.read_text(encoding="utf-8"))
    python = [values["python"], "-I", "-c", _QUESTION]
    status = [str(program), f"--app={app}", "status", "--json"]
    target, live = (
        subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for command in (python, status)
    )
    artifact = Path(values["state"]) / "incoming" / f"{app}-{version}.tar"
    return {
        "target": target.strip(),
        "current": json.loads(live)["current"],
        "artifact": str(artifact),
        "sha256": _checksum(artifact) if artifact.is_file() else "",
        "serial": _serial(Path(values["state"]) / "fleet/fleet.json"),
    }


def _serial(record: Path) -> int:
    """Return the number of what the fleet released last, as far as this host knows."""
    return int(json.loads(record.read_text())["serial"]) if record.is_file() else 0


def _checksum(path: Path) -> str:
    total = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            total.update(block)
    return total.hexdigest()


def main() -> int:
    """Answer for the service and the version that the command line names."""
    app, version = sys.argv[1:3]
    settings = Path("/etc/slipway") / f"{app}.json"
    try:
        answer = ask(app, version, settings, Path("/usr/local/sbin/slipway"))
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"{error.stderr.strip() or error}\n")
    except (OSError, ValueError, LookupError) as error:
        sys.stderr.write(f"It takes no releases of {app} yet ({error}): run playbook.yml first.\n")
    else:
        sys.stdout.write(f"{json.dumps(answer)}\n")
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
