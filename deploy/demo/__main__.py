"""The command behind `make demo`: ``python -m deploy.demo up``, ``down`` and ``tag VERSION``."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.demo import hosts
from deploy.demo.errors import DemoError
from deploy.demo.playbook import play
from deploy.demo.progress import Clock, say
from deploy.demo.signing import Signing
from deploy.demo.summary import summary
from deploy.lab import settings
from deploy.lab.errors import LabError
from deploy.logged import ROOT

_LOGS = ROOT / ".slipway/demo"


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; what is wrong becomes one sentence on standard error.

    Returns:
        0 when it is done, 1 when it failed, 130 when it was interrupted.
    """
    options = _parser().parse_args(arguments)
    state = settings.default_state().resolve()
    try:
        if options.verb == "tag":
            tag(state, options.version)
        else:
            {"up": up, "down": down}[options.verb](state)
    except (DemoError, LabError) as error:
        sys.stdout.flush()
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def up(state: Path) -> None:
    """Make the lab, provision it and release onto it, and leave alone what is there already.

    Raises:
        DemoError: A phase failed; its times so far have been told.
    """
    clock = Clock()
    try:
        with clock.phase("lab", "boot a bare host with an address and a certificate authority"):
            _lab(state, "up")
        lab = hosts.running_lab(state)
        with clock.phase("provision", "run playbook.yml on it"):
            changed = play("playbook.yml", _LOGS / "provision.log")
            say(f"  {changed} changed" if changed else "  Nothing to change.")
        with clock.phase("release", "make a release from a signed tag and put it live"):
            version = _release(state)
    finally:
        say("\n" + "\n".join(clock.table()))
    say("\n" + "\n".join(summary(lab, version)))


def _release(state: Path) -> str:
    signing = Signing(ROOT, state)
    signing.ensure_key()
    version = signing.newest()
    if version is None:
        version = signing.next_version()
        signing.tag(version)
        say(f"  Tagged HEAD as {version}, signed with the lab's key.")
    if hosts.is_live(hosts.running_lab(state), version):
        say(f"  {version} is live already: nothing to release.")
    else:
        play("deploy/release.yml", _LOGS / "release.log", "-e", f"release={version}")
        say(f"  {version} is live.")
    return version


def down(state: Path) -> None:
    """Take away the lab with everything that it and the demo made, except the image cache.

    Raises:
        DemoError: A lab could not be taken down; then its state stays.
    """
    for other in sorted(state.glob("molecule/*/lab.json")):
        _lab(other.parent, "down")
    _close_connections()
    _lab(state, "down")
    removed = []
    signing = Signing(ROOT, state)
    for version in signing.mine():
        # Its key goes with the lab, so that nobody could verify it any more.
        signing.delete(version)
        for artifact in (ROOT / ".slipway/artifacts").glob(f"*-{version}-*"):
            artifact.unlink()
        removed.append(f"the tag {version} with its artifact")
    kept = {(ROOT / ".lab/cache").resolve(), settings.default_cache().resolve()}
    for path in sorted(state.iterdir()) if state.exists() else []:
        if path.resolve() in kept:
            continue
        removed.append(str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path))
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if state.exists() and not any(state.iterdir()):
        state.rmdir()
    if _LOGS.exists():
        shutil.rmtree(_LOGS)
        removed.append(str(_LOGS.relative_to(ROOT)))
    say(f"Removed {', '.join(removed)}." if removed else "There was nothing to remove.")
    if (state / "cache").exists():
        say("The image cache in .lab/cache stays, for a quick `make demo`: delete it at will.")


def tag(state: Path, version: str) -> None:
    """Sign a tag of HEAD with the key of the lab.

    Raises:
        DemoError: It is no version, there is such a tag, or there is no lab.
    """
    hosts.running_lab(state)
    signing = Signing(ROOT, state)
    signing.ensure_key()
    signing.tag(version)
    say(f"{version} is tagged: `make release VERSION={version}` puts it live.")


def _lab(state: Path, verb: str) -> None:
    command = [sys.executable, "-m", "deploy.lab", "--state", str(state), verb]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise DemoError(f"The lab could not be {'made' if verb == 'up' else 'taken down'}.")


def _close_connections() -> None:
    """End the SSH connections that Ansible keeps open, which would outlive their hosts."""
    folder = os.environ.get("ANSIBLE_SSH_CONTROL_PATH_DIR")
    if not folder or not Path(folder).is_dir():
        return
    for socket in Path(folder).iterdir():
        command = ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "lab"]
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    shutil.rmtree(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("up", help="boot a host, provision it, release onto it")
    verbs.add_parser("down", help="take all of that away")
    verbs.add_parser("tag", help="sign a tag of HEAD with the lab's key").add_argument("version")
    return parser


if __name__ == "__main__":
    sys.exit(main())
