"""Images of bare hosts, made once by mmdebstrap and kept."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from deploy.lab.controller import run, say
from deploy.lab.errors import LabError
from deploy.lab.settings import DISTRIBUTIONS

# What a cloud image has beyond the smallest system; python3-apt comes there with cloud-init.
_PACKAGES = (
    "systemd systemd-sysv dbus python3 python3-apt openssh-server sudo ca-certificates iproute2"
)
_CODENAMES = "bookworm|trixie|jammy|noble|resolute"
_HOOKS = (
    # Identities are made for each host; two hosts with one of them would be one to the network.
    "rm -f $1/etc/ssh/ssh_host_* && : > $1/etc/machine-id && rm -f $1/var/lib/dbus/machine-id",
    "chroot $1 systemctl enable systemd-networkd",
    "chroot $1 systemctl disable systemd-resolved 2>/dev/null || true",
    "rm -f $1/etc/resolv.conf $1/etc/hostname",
    # Debian 13 starts sshd by a socket on request, which a first login then waits for.
    "chroot $1 systemctl enable ssh.service",
)


def ensure(distribution: str, cache: Path) -> Path:
    """Return the root folder of an image, making it when it is not there.

    Raises:
        LabError: Its archive cannot be reached, or mmdebstrap failed.
    """
    sources = _sources(distribution)
    recipe = "\n".join([sources, _options(), _PACKAGES, *_HOOKS])
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    image = cache / f"{distribution}-{digest}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        # Two labs that want the same image make it once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not image.is_dir():
            for old in cache.glob(f"{distribution}-*.new"):
                shutil.rmtree(old)
            _make(distribution, sources, image)
    return image


def _make(distribution: str, sources: str, image: Path) -> None:
    say(f"Image of {distribution}: making it, once")
    started = time.monotonic()
    temporary = image.with_name(f"{image.name}.new")
    settings = temporary.with_suffix(".apt")
    settings.write_text(_options())
    log = image.with_suffix(".log")
    command = [
        *("mmdebstrap", "--variant=minbase", f"--include={','.join(_PACKAGES.split())}"),
        *(f"--aptopt={settings}", "--skip=output/dev"),
        *(f"--customize-hook={hook}" for hook in _HOOKS),
        *(DISTRIBUTIONS[distribution][1], str(temporary), "-"),
    ]
    with log.open("w") as output:
        answer = subprocess.run(
            command, check=False, input=sources, text=True, stdout=output, stderr=output
        )
    settings.unlink()
    if answer.returncode:
        shutil.rmtree(temporary, ignore_errors=True)
        errors = [line for line in log.read_text().splitlines() if line.startswith("E:")]
        raise LabError(
            f"The image of {distribution} could not be made: "
            f"{errors[0] if errors else 'see the log'} ({log})."
        )
    (temporary / "etc/apt/apt.conf.d/90controller").write_text(_options())
    # Empty package lists of today would look up to date.
    os.utime(temporary / "var/lib/apt/lists", (0, 0))
    temporary.replace(image)
    log.unlink()
    say(f"Image of {distribution}: {time.monotonic() - started:.0f} s")


def _options() -> str:
    """Apt settings of the controller that its registries need: proxies, authorities, dates."""
    names = r"Acquire::(Check-|https?::(Proxy|CaInfo|Verify)|Retries|ForceIPv4)"
    wanted = re.compile(names, re.IGNORECASE)
    lines = run("apt-config", "dump", "Acquire").splitlines()
    return "".join(line + "\n" for line in lines if wanted.match(line) and '""' not in line)


def _sources(distribution: str) -> str:
    """Sources of a distribution, from the mirrors that the controller itself uses."""
    kind, suite, _ = DISTRIBUTIONS[distribution]
    listing = run("apt-get", "indextargets", "--format", "$(ORIGIN)|$(SITE)|$(RELEASE)")
    sites: dict[str, str] = {}
    for line in listing.splitlines():
        origin, site, release = line.split("|")
        if origin.lower() == kind and re.match(rf"({_CODENAMES})(-\w+)?$", release):
            sites.setdefault("security" if release.endswith("-security") else "main", site)
    defaults = {
        "debian": ("http://ftp.debian.org/debian", "http://security.debian.org/debian-security"),
        "ubuntu": ("http://archive.ubuntu.com/ubuntu", "http://security.ubuntu.com/ubuntu"),
    }[kind]
    main = os.environ.get(f"SLIPWAY_{kind.upper()}_MIRROR") or sites.get("main", defaults[0])
    security = os.environ.get(f"SLIPWAY_{kind.upper()}_SECURITY_MIRROR") or sites.get(
        "security", defaults[1]
    )
    components = "main" if kind == "debian" else "main universe"
    keyring = f"/usr/share/keyrings/{kind}-archive-keyring.gpg"
    if not Path(keyring).exists():
        raise LabError(
            f"The controller cannot verify {kind}: run `apt-get install {kind}-archive-keyring` "
            f"({kind}-keyring on some), or choose another distribution."
        )
    return "".join(
        f"deb [signed-by={keyring}] {site} {name} {components}\n"
        for site, name in (
            (main, suite),
            (main, f"{suite}-updates"),
            (security, f"{suite}-security"),
        )
    )
