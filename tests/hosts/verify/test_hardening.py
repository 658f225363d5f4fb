"""How little a taken-over process, or a curious user of the host, could do."""

import re

import pytest

from tests.hosts.machine import Machine


def test_the_service_is_sandboxed(machine: Machine) -> None:
    assert machine.exposure(f"{machine.app}@{machine.release()}.service") <= 1.0


@pytest.mark.parametrize("pattern", ["nginx.service", "postgresql@*.service"])
def test_its_neighbours_are_sandboxed(machine: Machine, pattern: str) -> None:
    units = machine.run(f"systemctl list-units --plain --no-legend '{pattern}'").stdout.split()
    assert units
    assert machine.exposure(units[0]) <= 2.5


def test_no_secret_is_readable_or_in_an_environment(machine: Machine) -> None:
    credentials = f"/etc/slipway/{machine.app}/credentials"
    secret = machine.run(f"cat {credentials}/app_token_secret").stdout.strip()
    assert len(secret) >= 32
    modes = machine.run(f"stat -c '%a %U' {credentials} {credentials}/*").stdout.splitlines()
    assert modes[0] == "700 root"
    assert set(modes[1:]) == {"600 root"}
    secret_file = f"{credentials}/app_token_secret"
    found = machine.run(
        f"grep -lsF -f {secret_file} /proc/[0-9]*/environ /proc/[0-9]*/cmdline; true"
    ).stdout
    assert found == ""
    assert (
        machine.run(
            f"journalctl -q --no-pager | grep -cF -f {credentials}/app_token_secret; true"
        ).stdout.strip()
        == "0"
    )


def test_the_service_cannot_change_its_code_or_its_schema(machine: Machine) -> None:
    app = machine.app
    assert machine.run(
        f"setpriv --reuid {app} --regid {app} --clear-groups touch /srv/{app}/current/intruder",
        check=False,
    ).returncode
    refused = machine.run(
        f"setpriv --reuid {app} --regid {app} --clear-groups "
        f"psql -d {app} -c 'create table intruder ()'",
        check=False,
    )
    assert refused.returncode
    assert "permission denied" in refused.stderr


def test_ssh_takes_keys_only(machine: Machine) -> None:
    settings = machine.run("sshd -T").stdout
    assert "passwordauthentication no" in settings
    assert "kbdinteractiveauthentication no" in settings
    assert "maxauthtries 4" in settings
    assert re.search(r"permitrootlogin (no|without-password|prohibit-password)", settings)


def test_the_journal_is_persistent_and_bounded(machine: Machine) -> None:
    assert machine.run("ls /var/log/journal").stdout.strip()
    settings = machine.run("systemd-analyze cat-config systemd/journald.conf").stdout
    assert re.search(r"^SystemMaxUse=\S+", settings, re.MULTILINE)


def test_security_upgrades_come_by_themselves(machine: Machine) -> None:
    assert machine.run("systemctl is-enabled apt-daily-upgrade.timer").stdout.strip() == "enabled"
    settings = machine.run("apt-config dump APT::Periodic::Unattended-Upgrade").stdout
    assert '"1"' in settings


def test_nothing_has_failed(machine: Machine) -> None:
    failed = machine.run("systemctl --failed --plain --no-legend").stdout
    assert failed == ""
