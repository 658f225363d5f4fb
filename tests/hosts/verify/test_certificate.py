"""The certificate of the site: renewed, extended, and kept when the authority is down."""

import json
import socket
import ssl
from typing import Any

from tests.hosts.machine import Machine
from tests.hosts.operator import Operator


def served(machine: Machine, name: str) -> dict[str, Any]:
    """The certificate that a new client gets, verified against the lab's authority."""
    with (
        socket.create_connection((machine.address, 443), timeout=5) as plain,
        machine.context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        certificate = tls.getpeercert()
    assert certificate
    return dict(certificate)


def test_the_timer_renews_a_certificate_and_nginx_serves_it(machine: Machine) -> None:
    before = served(machine, machine.site)["serialNumber"]
    assert machine.run("systemctl is-active certbot.timer").stdout.strip() == "active"
    # The certificates of the lab live for five years: this one is told to be due.
    settings = f"/etc/letsencrypt/renewal/{machine.app}.conf"
    machine.run(f"cp -p {settings} /tmp/renewal.conf")
    machine.run(f"sed -i '1i renew_before_expiry = 3650 days' {settings}")
    try:
        # The unit that the timer starts.
        machine.run("systemctl start certbot.service", seconds=600)
    finally:
        machine.run(f"cp -p /tmp/renewal.conf {settings}; rm /tmp/renewal.conf")
    assert served(machine, machine.site)["serialNumber"] != before


def test_its_lifetime_is_watched_and_told(machine: Machine) -> None:
    unit = f"slipway-certificate-{machine.app}"
    assert machine.run(f"systemctl is-active {unit}.timer").stdout.strip() == "active"
    machine.run(f"systemctl start {unit}.service")
    told = machine.run(f"cat /var/lib/slipway-certificate/{machine.app}.prom").stdout
    end = float(told.split("slipway_certificate_not_after_seconds{")[1].split()[1])
    shown = ssl.cert_time_to_seconds(served(machine, machine.site)["notAfter"])
    assert end == shown
    # What the unit has found out is what a monitor of units sees.
    drop = f"/run/systemd/system/{unit}.service.d"
    machine.run(
        f"mkdir -p {drop} && printf '[Service]\\nExecStart=\\nExecStart=%s\\n' "
        f"'/usr/local/sbin/slipway-certificate --least=1.1 {machine.site}' >{drop}/50-test.conf && "
        f"systemctl daemon-reload"
    )
    try:
        assert machine.run(f"systemctl start {unit}.service", check=False).returncode
        assert machine.run(f"systemctl is-failed {unit}.service").stdout.strip() == "failed"
        assert (
            "days of its certificate are left" in machine.run(f"journalctl -p err -u {unit}").stdout
        )
    finally:
        machine.run(f"rm -r {drop} && systemctl daemon-reload")
    machine.run(f"systemctl start {unit}.service")


async def test_a_name_is_added_and_taken_away(machine: Machine, operator: Operator) -> None:
    other = machine.site.replace(machine.app, "www", 1)
    names = json.dumps({"tls_domains": [machine.site, other]})
    result = await operator.play("playbook.yml", "--tags=nginx,tls", f"--extra-vars={names}")
    assert result.returncode == 0, result.text
    for name in (machine.site, other):
        assert ("DNS", name) in served(machine, name)["subjectAltName"]
    result = await operator.play("playbook.yml", "--tags=nginx,tls")
    assert result.returncode == 0, result.text
    assert ("DNS", other) not in served(machine, machine.site)["subjectAltName"]


async def test_the_old_certificate_stays_when_the_authority_is_down(
    machine: Machine, operator: Operator
) -> None:
    before = served(machine, machine.site)["serialNumber"]
    silent = json.dumps({"tls_acme_directory": "https://127.0.0.1:1/dir"})
    result = await operator.play("playbook.yml", "--tags=tls", f"--extra-vars={silent}")
    assert result.returncode
    text = " ".join(result.text.split())
    assert f"{machine.name} got no certificate for {machine.site}" in text
    assert "The old certificate stays in use." in text
    assert served(machine, machine.site)["serialNumber"] == before
    result = await operator.play("playbook.yml", "--tags=tls")
    assert result.returncode == 0, result.text
    assert served(machine, machine.site)["serialNumber"] == before
