"""Asked of a host before a release, on the standard input of its own Python (3.10 or newer).

Prints what a build, a copy and a plan have to know, as JSON: the kind of the host, the version that
is live, where the artifact of a version belongs, the checksum of what is there already, the number
of the record of the fleet, the contract revisions that were run, whether the database is saved
before its schema changes, and the uv that installed what is live.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

_BLOCK = 1 << 20
_QUESTION = "import platform, sys; print('%d.%d-%s' % (*sys.version_info[:2], platform.machine()))"


def ask(app: str, version: str, settings: Path, program: Path) -> "dict[str, object]":
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
    state, current = Path(values["state"]), json.loads(live)["current"]
    artifact = state / "incoming" / f"{app}-{version}.tar"
    return {
        "target": target.strip(),
        "current": current,
        "artifact": str(artifact),
        "sha256": _checksum(artifact) if artifact.is_file() else "",
        "serial": _serial(state / "fleet/fleet.json"),
        "contracted": _contracted(state / "schema.json"),
        "restore_point": bool(values.get("has_restore_point")),
        "uv": _uv(Path(values.get("root", "/")) / "releases" / str(current), target.strip()),
    }


def _serial(record: Path) -> int:
    """Return the number of what the fleet released last, as far as this host knows."""
    return int(json.loads(record.read_text())["serial"]) if record.is_file() else 0


def _contracted(schema: Path) -> "list[str]":
    """Return the contract revisions that were run on request."""
    return list(json.loads(schema.read_text())["contracted"]) if schema.is_file() else []


def _uv(release: Path, target: str) -> str:
    """Return the version of the uv in the artifact of a release, '' where none is known."""
    try:
        manifest = json.loads((release / "manifest.json").read_text(encoding="utf-8"))
        return str(manifest["targets"][target]["uv"]).rpartition("/")[2].split("-")[1]
    except (OSError, ValueError, LookupError, TypeError):
        return ""


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
