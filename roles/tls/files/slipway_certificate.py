#!/usr/bin/python3 -I
"""Tells how long the certificate lives that clients of this host get, and fails when that is short.

The certificate is asked for over TLS, because a file that was renewed may not be served yet. Its
timer runs it as slipway-certificate-NAME.service, whose failure is the alarm. Nobody else warns:
authorities have stopped to send mails about certificates that expire.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

DAY = 86400.0
# Priorities of sd-daemon(3), which systemd takes off the line.
ERROR, INFO = "<3>", "<6>"


def served(address: str, port: int, name: str) -> tuple[float, float]:
    """Return from when and until when a served certificate is valid, in Unix time.

    Raises:
        OSError: Nothing answers there by TLS.
        ValueError: What it shows is no certificate.
    """
    context = ssl.create_default_context()
    # It is looked at, not trusted: an expired one has dates as well.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((address, port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        certificate = tls.getpeercert(binary_form=True) or b""
    answer = subprocess.run(
        ["openssl", "x509", "-inform", "DER", "-noout", "-startdate", "-enddate"],
        input=certificate,
        capture_output=True,
        check=False,
    )
    dates = dict(line.partition("=")[::2] for line in answer.stdout.decode().splitlines())
    try:
        begin, end = (ssl.cert_time_to_seconds(dates[key]) for key in ("notBefore", "notAfter"))
    except KeyError as error:
        raise ValueError("it shows no certificate") from error
    return begin, end


def write_metrics(path: Path, name: str, end: float, share: float) -> None:
    """Write a file for the textfile collector of node_exporter, as a whole."""
    text = "".join(
        f"# HELP slipway_certificate_{metric} {meaning}\n"
        f"# TYPE slipway_certificate_{metric} gauge\n"
        f'slipway_certificate_{metric}{{name="{name}"}} {value:.15g}\n'
        for metric, meaning, value in (
            ("not_after_seconds", "When the served certificate expires, in Unix time.", end),
            ("left_ratio", "Share of its lifetime that is left.", share),
        )
    )
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text)
    draft.chmod(0o644)
    draft.replace(path)


def main() -> int:
    """Look at the certificate of one name.

    Returns:
        0 when it lives long enough, 1 when it does not or when none is served.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="public name of the site")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=443)
    parser.add_argument("--least", type=float, default=0.3, help="share of the lifetime")
    parser.add_argument("--metrics", type=Path, help="file for Prometheus")
    options = parser.parse_args()
    try:
        begin, end = served(options.address, options.port, options.name)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{ERROR}{options.name}: no certificate is served: {error}\n")
        return 1
    left = end - time.time()
    share = left / (end - begin)
    if options.metrics:
        write_metrics(options.metrics, options.name, end, share)
    told = f"{options.name}: {left / DAY:.0f} of {(end - begin) / DAY:.0f} days of its certificate"
    if share < options.least:
        wrong = "has expired" if left < 0 else "was not renewed in time"
        sys.stderr.write(
            f"{ERROR}{told} are left: it {wrong}. `journalctl -u certbot` says why; "
            "`certbot renew` tries again.\n"
        )
        return 1
    sys.stdout.write(f"{INFO}{told} are left.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
