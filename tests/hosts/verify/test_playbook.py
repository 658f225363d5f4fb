"""The playbook on a live host: it tells the truth, and what it changes costs no request."""

import json
import re

from tests.hosts.load import Load, Site
from tests.hosts.machine import Machine
from tests.hosts.operator import Operator


async def test_a_check_of_a_live_host_finds_nothing_to_change(
    machine: Machine, operator: Operator
) -> None:
    result = await operator.play("playbook.yml", "--check", "--diff")
    assert result.returncode == 0, result.text
    assert re.search(rf"^{machine.name} .*changed=0 .*failed=0", result.text, re.MULTILINE)


async def test_a_changed_setting_reaches_the_service_without_a_failed_request(
    machine: Machine, operator: Operator, token: str
) -> None:
    unit = f"{machine.app}@{machine.release()}.service"
    started = f"systemctl show --value -p ActiveEnterTimestampMonotonic {unit}"
    before = machine.run(started).stdout
    changed = json.dumps({"app_drain_seconds": 9})
    async with Load(Site(machine.site, machine.address, machine.context), token) as load:
        result = await operator.play("playbook.yml", "--tags=app", f"--extra-vars={changed}")
    assert result.returncode == 0, result.text
    assert machine.run(started).stdout != before
    assert "SLIPWAY_DRAIN_SECONDS=9" in machine.run(f"systemctl show -p Environment {unit}").stdout
    assert load.report.failures == []
    assert load.report.requests > 500
    result = await operator.play("playbook.yml", "--tags=app")
    assert result.returncode == 0, result.text


async def test_a_secret_that_changes_is_in_no_output(machine: Machine, operator: Operator) -> None:
    secret = "not-to-be-seen-anywhere-at-all-0123456789"
    changed = json.dumps({"vault_token_secret": secret})
    result = await operator.play(
        "playbook.yml", "--tags=app", "--check", "--diff", "-vvv", f"--extra-vars={changed}"
    )
    assert result.returncode == 0, result.text
    assert re.search(rf"^{machine.name} .*changed=[1-9]", result.text, re.MULTILINE)
    # The command line itself is not output of a task.
    tasks = result.text[result.text.index("PLAY [") :]
    assert secret not in tasks


async def test_a_wrong_setting_is_refused_before_the_service_meets_it(
    machine: Machine, operator: Operator, token: str
) -> None:
    unit = f"{machine.app}@{machine.release()}.service"
    asked = (
        f"systemctl show --value -p MainPID {unit} '{machine.app}.worker@*'; "
        f"sha256sum /etc/slipway/{machine.app}/environment /etc/slipway/{machine.app}/credentials/*"
    )
    before = machine.run(asked).stdout
    secret = "another-secret-that-goes-with-it-0123456789"
    wrong = json.dumps(
        {"harbour_settings": {"APP_LOG_LEVEL": "debgu"}, "vault_token_secret": secret}
    )
    async with Load(Site(machine.site, machine.address, machine.context), token) as load:
        result = await operator.play("playbook.yml", "--tags=app", f"--extra-vars={wrong}")
    said = " ".join(result.text.split())
    assert result.returncode
    assert f"{machine.app} does not run with its new settings: " in said
    assert "APP_LOG_LEVEL" in said.partition("does not run with its new settings: ")[2]
    assert secret not in result.text
    assert machine.run(asked).stdout == before
    assert load.report.failures == []
    failed = machine.run("systemctl list-units --failed --plain --no-legend").stdout
    assert f"{machine.app}-preflight@" not in failed
    # The settings of before are those of the inventory: nothing is left to do.
    result = await operator.play("playbook.yml", "--tags=app")
    assert result.returncode == 0, result.text
    assert re.search(rf"^{machine.name} .*changed=0 ", result.text, re.MULTILINE)


async def test_what_a_run_that_was_cut_off_has_written_is_loaded_by_the_next(
    machine: Machine, operator: Operator
) -> None:
    mark = "/var/lib/slipway-pending/nginx-reload"
    machine.run(f"test -d /var/lib/slipway-pending && touch {mark}")
    for outcome in ("changed=[1-9]", "changed=0 "):
        result = await operator.play("playbook.yml", "--tags=nginx")
        assert result.returncode == 0, result.text
        assert re.search(rf"^{machine.name} .*{outcome}", result.text, re.MULTILINE)
    machine.run(f"test ! -e {mark}")
