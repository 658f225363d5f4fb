"""The virtual environment of a release: made by uv out of the artifact, without the internet."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

from slipway_release import deploy_user
from slipway_release.errors import FailedError
from slipway_release.manifest import Manifest
from slipway_release.settings import Settings
from slipway_release.unpack import REQUIREMENTS, checksum

_QUESTION = "import platform, sys; print('%d.%d-%s' % (*sys.version_info[:2], platform.machine()))"


def wheels_folder(settings: Settings) -> Path:
    """Return the folder of wheels that all releases share."""
    return settings.state / "wheels"


def target(settings: Settings) -> str:
    """Return the kind of this host, such as `3.11-x86_64`, by asking its interpreter.

    Raises:
        FailedError: The interpreter is not there or does not run.
    """
    try:
        answer = subprocess.run(
            [settings.python, "-I", "-c", _QUESTION], check=True, capture_output=True, text=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        message = f"{settings.python} does not run ({error}): set release_python to one that does."
        raise FailedError(message) from error
    return answer.stdout.strip()


def make(settings: Settings, manifest: Manifest, kind: str) -> None:
    """Make `.venv` in the folder of a release and compile its own modules.

    uv keeps the unpacked wheels in its cache and hard-links them, and bytecode is linked as well,
    so that an environment like the last one takes hardly any room.

    Raises:
        FailedError: uv or the compiler failed.
    """
    release = settings.release(manifest.version)
    uv = _uv(settings, manifest, kind)
    shutil.rmtree(release / ".venv", ignore_errors=True)
    options = ["--offline", "--no-config", "--no-progress", "--quiet"]
    variables = _variables(settings)
    deploy_user.run(
        settings, [uv, "venv", *options, f"--python={settings.python}", ".venv"], release, variables
    )
    install: list[str | Path] = [
        uv,
        *("pip", "install", *options),
        *("--no-index", f"--find-links={wheels_folder(settings)}"),
        *("--no-deps", "--require-hashes", f"--requirements={REQUIREMENTS}"),
        *("--python=.venv/bin/python", "--link-mode=hardlink"),
    ]
    deploy_user.run(settings, install, release, variables)
    _compile_packages(settings, release)
    compiler: list[str | Path] = [
        release / ".venv/bin/python",
        *("-m", "compileall", "-q", "-j", "0", "-x", r"/\.venv/"),
        release,
    ]
    deploy_user.run(settings, compiler, release)


def _compile_packages(settings: Settings, release: Path) -> None:
    """Compile what an earlier release has not compiled: the half of the time of an installation."""
    python = release / ".venv/bin/python"
    earlier = sorted(
        (path for path in settings.releases.glob("*/.venv") if path.parent != release),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    script = Path(__file__).with_name("bytecode.py")
    command: list[str | Path] = [python, "-I", "-B", script, release / ".venv", *earlier[:2]]
    deploy_user.run(settings, command, release)


def forget_wheels(settings: Settings, kept: set[str]) -> None:
    """Remove the wheels that no kept release lists, from the folder and from uv's cache."""
    gone = {wheel for wheel in wheels_folder(settings).glob("*.whl") if wheel.name not in kept}
    for wheel in gone:
        wheel.unlink()
    programs = sorted((settings.state / "tools").glob("uv-*/uv"))
    names = sorted({wheel.name.partition("-")[0] for wheel in gone})
    if names and programs:
        variables = _variables(settings)
        command: list[str | Path] = [
            programs[-1],
            "cache",
            "clean",
            "--no-config",
            "--quiet",
            *names,
        ]
        deploy_user.run(settings, command, settings.state, variables)


def wheels_of(release: Path) -> set[str]:
    """Return the names of the wheels that a release on this host was installed from."""
    try:
        manifest = json.loads((release / "manifest.json").read_text(encoding="utf-8"))
        return {path.rpartition("/")[2] for path in manifest["files"] if path.endswith(".whl")}
    except (OSError, ValueError, LookupError):
        return set()


def _variables(settings: Settings) -> dict[str, str]:
    cache = settings.state / "uv"
    deploy_user.own(settings, cache)
    return {"UV_CACHE_DIR": str(cache), "UV_PYTHON_DOWNLOADS": "never", "HOME": str(cache)}


def _uv(settings: Settings, manifest: Manifest, kind: str) -> Path:
    """Return uv's program, taken out of its wheel: pip would be slower than uv's whole work."""
    path = manifest.targets[kind].uv
    wheel = wheels_folder(settings) / path.rpartition("/")[2]
    match = re.match(r"uv-([^-]+)-", wheel.name)
    if match is None:
        raise FailedError(f"The artifact names {wheel.name} as uv, which it is not: build again.")
    program = settings.state / "tools" / f"uv-{match[1]}-{manifest.files[path].sha256[:12]}" / "uv"
    if program.is_file():
        return program
    if checksum(wheel) != manifest.files[path].sha256:
        raise FailedError(f"{wheel} changed after it was unpacked: run the release again.")
    program.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        contents = archive.read(f"uv-{match[1]}.data/scripts/uv")
    temporary = program.with_name("uv.new")
    temporary.write_bytes(contents)
    temporary.chmod(0o755)
    temporary.replace(program)
    return program
