"""Loads a site with visitors and tells what came of it: ``make load``.

Without a target it is the host of `make demo`. Its limits by client stay as they are in
production: the visitors come from as many addresses of the lab's network as there are visitors,
each added for the time of the run. The status is 1 when a request failed.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deploy.demo import hosts
from deploy.demo.errors import DemoError
from deploy.lab import authority, settings
from deploy.lab.settings import Lab
from deploy.logged import ROOT
from tests.performance.mixed.accounts import password_in, sign_in
from tests.performance.mixed.results import plots, read_moments, read_rows, table

RESULTS = ROOT / ".slipway/load"
_HERE = Path(__file__).parent
# Above the hosts of the lab, below the end of its network.
_FIRST_ADDRESS, _MOST_VISITORS = 100, 150
_LONGEST = 600


@dataclass(frozen=True)
class Target:
    """A site.

    Attributes:
        url: Of the site, without a path.
        ca: File of the certificate authorities that it is trusted by; None for the system's.
        addresses: Of this machine, that the visitors come from.
    """

    url: str
    ca: Path | None
    addresses: tuple[str, ...] = ()


def main(arguments: list[str] | None = None) -> int:
    """Run the load; what is wrong becomes one sentence on standard error."""
    options = _parser().parse_args(arguments)
    try:
        if options.target:
            return run(Target(options.target.rstrip("/"), options.ca), options)
        lab = hosts.running_lab(settings.default_state().resolve())
        with _addresses(lab, options.users) as addresses:
            name = lab.aliases[0] if lab.aliases else lab.hosts[0].name
            url = f"https://{name}.{lab.domain}"
            return run(Target(url, authority.bundle(lab), addresses), options)
    except DemoError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def run(target: Target, options: argparse.Namespace) -> int:
    """Load a site, and tell and keep what came of it.

    Raises:
        DemoError: the site lets the visitors not in, or was not reached.
    """
    began = time.monotonic()
    password = password_in(RESULTS / "password")
    tokens = sign_in(target.url, target.ca, target.addresses, options.users, password)
    print(f"{options.users} visitors signed in ({time.monotonic() - began:.1f} s)", flush=True)
    shutil.rmtree(RESULTS / "last", ignore_errors=True)
    (RESULTS / "last").mkdir(parents=True)
    kept = RESULTS / "last/tokens"
    kept.touch(mode=0o600)
    kept.write_text("\n".join(tokens), encoding="ascii")
    print(
        f"They ask {target.url} {options.rate:g} times a second each for {options.seconds} s: "
        "list 5, detail 3, create 1, health 1",
        flush=True,
    )
    command = [
        *(sys.executable, "-m", "locust", "--headless", "--only-summary", "--loglevel=WARNING"),
        *("--locustfile", str(_HERE / "locustfile.py"), "--host", target.url),
        *("--users", str(options.users), "--spawn-rate", str(max(1, options.users // 5))),
        *("--run-time", f"{options.seconds}s", "--stop-timeout=15", "--reset-stats"),
        *("--csv", str(RESULTS / "last/load"), "--html", str(RESULTS / "last/report.html")),
        *("--exit-code-on-error", "0"),
    ]
    environment = {
        **os.environ,
        "LOAD_CA": str(target.ca or ""),
        "LOAD_ADDRESSES": ",".join(target.addresses),
        "LOAD_RATE": str(options.rate),
        "LOAD_TOKENS": str(kept),
    }
    with (RESULTS / "last/locust.log").open("wb") as log:
        locust = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            _wait(locust)
        finally:
            locust.terminate()
            locust.wait()
            kept.unlink()
    return _tell(target)


def _wait(locust: "subprocess.Popen[bytes]") -> None:
    """Wait for the end; say now and then how far it is."""
    begin = time.monotonic()
    while locust.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            locust.wait(10)
            break
        try:
            moments = read_moments(RESULTS / "last/load_stats_history.csv")
        except OSError:
            continue
        if moments:
            now = moments[-1]
            seconds = time.monotonic() - begin
            print(
                f"  {seconds:3.0f} s  {now.rate:.0f} requests/s, p95 {now.p95:.0f} ms", flush=True
            )


def _tell(target: Target) -> int:
    stats = RESULTS / "last/load_stats.csv"
    rows = read_rows(stats) if stats.exists() else []
    if not rows or not rows[-1].requests:
        log = (RESULTS / "last/locust.log").read_text(encoding="utf-8", errors="replace")
        reason = log.strip().splitlines()[-1:] or ["locust said nothing"]
        raise DemoError(f"No request reached {target.url}: {reason[0]}")
    print("\n" + "\n".join(table(rows)))
    if moments := read_moments(RESULTS / "last/load_stats_history.csv"):
        print("\n" + plots(moments))
    failures = (RESULTS / "last/load_failures.csv").read_text(encoding="utf-8").splitlines()[1:]
    if failures:
        print("\nFailed:\n" + "\n".join(f"  {line}" for line in failures[:10]))
    report = os.path.relpath(RESULTS / "last/report.html")
    print(f"\nThe same with charts: {report}. The items that were made stay on the site.")
    return 1 if rows[-1].failed else 0


@contextlib.contextmanager
def _addresses(lab: Lab, visitors: int) -> Iterator[tuple[str, ...]]:
    """Give the controller further addresses on the lab's bridge, and take them away again."""
    count = min(visitors, _MOST_VISITORS)
    addresses = [lab.address(_FIRST_ADDRESS + number) for number in range(count)]
    added = []
    try:
        for address in addresses:
            _ip("add", address, lab)
            added.append(address)
        yield tuple(addresses)
    finally:
        for address in added:
            _ip("delete", address, lab)


def _ip(verb: str, address: str, lab: Lab) -> None:
    # What a run that was killed has left is taken over.
    verb = "replace" if verb == "add" else verb
    command = ["ip", "address", verb, f"{address}/32", "dev", lab.bridge]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DemoError(f"The lab's bridge {lab.bridge} takes no address: {done.stderr.strip()}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.performance.mixed", description=__doc__)
    parser.add_argument("--target", help="URL of another site than the demo's; its limits refuse")
    parser.add_argument("--ca", type=Path, help="certificate authorities of that site")
    parser.add_argument("--users", type=_between(1, 1000), default=40, help="visitors (40)")
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second of each (10)")
    parser.add_argument(
        "--seconds", type=_between(5, _LONGEST), default=60, help=f"5 to {_LONGEST} (60)"
    )
    return parser


def _between(least: int, most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text} is no number from {least} to {most}")
        return int(text)

    return number


if __name__ == "__main__":
    sys.exit(main())
