"""What the runbook tells operators to type does what it says, on the hosts that the roles make."""

import fnmatch
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.roles.rendering import ROOT

RUNBOOK = (ROOT / "docs/runbook.md").read_text()
#: Starts what is live, and is none of its units.
NOT_OF_A_RELEASE = {"harbour-boot.service"}
#: They end with the operation that they are part of.
OF_AN_OPERATION = re.compile(r"harbour-(preflight|migrate|contract|restore-point)@")


def block(heading: str) -> list[str]:
    """The lines of the first block of commands below a heading."""
    return RUNBOOK.split(f"## {heading}\n")[1].split("```")[1].strip().splitlines()


def units() -> set[str]:
    """The units of a release that go on by themselves, as the role names their templates."""
    text = (ROOT / "roles/app/vars/main.yml").read_text()
    said = re.findall(r"'((?:-[a-z-]+)?@[.]\w+|-boot[.]service)'", text)
    assert "@.service" in said
    harbour: dict[str, Any] = yaml.safe_load((ROOT / "inventories/shared/harbour.yml").read_text())
    assert "'/etc/systemd/system/' ~ app_name ~ '.' ~ name ~ '@.' ~ kind" in text
    processes = {
        f"harbour.{name}@.{kind}"
        for name in [*harbour["app_processes"], "nightly"]
        for kind in ("service", "timer")
    }
    names = {f"harbour{name}" for name in said} | processes
    return {
        name.replace("@.", "@v1.4.2.")
        for name in names - NOT_OF_A_RELEASE
        if not OF_AN_OPERATION.match(name)
    }


def test_a_restoration_stops_every_unit_of_the_release() -> None:
    (line,) = [line for line in block("Restore a dump") if "systemctl stop" in line]
    sudo, systemctl, stop, *patterns = shlex.split(line)
    assert (sudo, systemctl, stop) == ("sudo", "systemctl", "stop")
    missed = {
        unit
        for unit in units()
        if not any(fnmatch.fnmatchcase(unit, pattern) for pattern in patterns)
    }
    assert missed == set()
    assert {"harbour@v1.4.2.socket", "harbour.worker@v1.4.2.service"} <= units()


def test_the_files_are_back_before_anything_starts() -> None:
    lines = block("Restore a dump")
    (files,) = [number for number, line in enumerate(lines) if "files" in line]
    (boot,) = [number for number, line in enumerate(lines) if line == "sudo slipway boot"]
    (stop,) = [number for number, line in enumerate(lines) if "systemctl stop" in line]
    assert stop < files < boot
    about = " ".join(RUNBOOK.split("## Files of users\n")[1].split("```")[0].split())
    assert "before `slipway boot`" in about
    assert "before `maintenance off`" not in about


@pytest.mark.parametrize("program", ["curl", "jq", "rsync"])
def test_what_it_calls_on_a_host_is_installed_there(program: str) -> None:
    assert re.search(rf"(^|[ |'])(sudo )?{program} ", RUNBOOK, re.MULTILINE)
    defaults = yaml.safe_load((Path(ROOT) / "roles/base/defaults/main.yml").read_text())
    assert program in defaults["base_packages"]


def commands() -> list[str]:
    """The lines of all blocks of commands."""
    return [line for block in RUNBOOK.split("```")[1::2] for line in block.strip().splitlines()]


#: What tells an administrator all of it without becoming root.
FOR_ANYBODY = ("systemctl list-timers ",)


def test_what_only_root_may_read_is_asked_with_sudo() -> None:
    """Administrators are in the group sudo alone, which may not read the journal."""
    there = [re.sub(r"^ssh (-t )?HOST ", "", line) for line in commands() if "ssh " in line[:4]]
    assert len(there) > 20
    assert [
        one for one in there if not one.startswith("sudo ") and not one.startswith(FOR_ANYBODY)
    ] == []
    assert (
        re.findall(r"(?<!sudo )(?:journalctl|systemctl (?:status|stop|restart)) .*", RUNBOOK) == []
    )


def tags_of(line: str) -> set[str]:
    """The tags that a line names."""
    return {tag for said in re.findall(r"--tags[= ]([a-z,]+)", line) for tag in said.split(",")}


def section(heading: str) -> str:
    """What stands below a heading, without its line breaks."""
    return " ".join(RUNBOOK.split(f"## {heading}\n")[1].split("\n## ")[0].split())


def roles_that_know(variable: str) -> set[str]:
    """The tags of the roles that a setting or a secret reaches by the shared inventories."""
    shared: dict[str, Any] = {}
    for file in ("kit.yml", "harbour.yml"):
        shared |= yaml.safe_load((ROOT / "inventories/shared" / file).read_text())
    # What is made of it elsewhere are the names and the number of the processes.
    names_alone = {"app_processes"} - {variable}
    names: set[str] = {variable}
    known: set[str] = set()
    while names != known:
        known = set(names)
        names |= {
            name
            for name, value in shared.items()
            if any(re.search(rf"\b{one}\b", str(value)) for one in known - names_alone)
        }
    tags = set()
    for role in (ROOT / "roles").iterdir():
        options = yaml.safe_load((role / "meta/argument_specs.yml").read_text())
        if names & options["argument_specs"]["main"]["options"].keys():
            tags.add(role.name)
    return tags


def test_its_tags_are_those_of_the_playbook() -> None:
    plays = yaml.safe_load((ROOT / "playbook.yml").read_text())
    known = {tag for play in plays for role in play.get("roles", ()) for tag in role["tags"]}
    assert {"app"} <= tags_of(RUNBOOK) <= known


@pytest.mark.parametrize(
    "setting",
    [
        "harbour_settings",
        "harbour_mail_addresses",
        "harbour_sentry_addresses",
        "vault_token_secret",
        "vault_token_accepted_secret",
        "vault_mail_password",
        "vault_s3_secret_key",
        "app_graceful_seconds",
        "app_max_requests",
    ],
)
def test_what_is_said_to_be_for_one_role_is_for_one(setting: str) -> None:
    assert setting in RUNBOOK
    assert roles_that_know(setting) == {"app"}


@pytest.mark.parametrize(
    ("setting", "roles"),
    [
        ("vault_database_password", {"postgresql", "app"}),
        ("vault_database_owner_password", {"postgresql", "app"}),
        ("vault_cache_password", {"redis", "app"}),
        ("release_webhook_url", {"release"}),
        ("release_grafana_token", {"release"}),
        ("harbour_file_max_size", {"nginx", "app"}),
        ("harbour_files", {"nginx", "app"}),
        ("app_processes", {"release", "app"}),
        ("tls_domains", {"nginx", "app", "tls"}),
    ],
)
def test_what_concerns_several_roles_is_changed_without_tags(setting: str, roles: set[str]) -> None:
    assert roles <= roles_that_know(setting)
    heading = "A setting is changed"
    if setting == "tls_domains":
        heading = "The certificate"
    elif setting.startswith(("vault_", "release_")):
        heading = "A secret has leaked"
    assert setting in section(heading)
    assert "without tags" in section(heading)


def test_a_certificate_is_issued_again_by_its_name_and_with_what_the_host_trusts() -> None:
    (line,) = [line for line in commands() if "--force-renewal" in line]
    kit = yaml.safe_load((ROOT / "inventories/shared/kit.yml").read_text())
    assert kit["tls_certificate_name"] == "{{ app_name }}"
    assert "--cert-name harbour" in line
    # Without a terminal Certbot sleeps up to eight minutes first.
    assert "--no-random-sleep-on-renew" in line
    unit = (ROOT / "roles/tls/templates/certbot.conf.j2").read_text()
    (bundle,) = re.findall(r"REQUESTS_CA_BUNDLE=\S+", unit)
    assert bundle in line


def test_files_that_were_copied_back_are_given_to_the_service() -> None:
    lines = block("Files of users")
    (back,) = [
        number
        for number, line in enumerate(lines)
        if line.startswith("rsync --archive --rsync-path")
    ]
    assert lines[back + 1].startswith(
        "ssh HOST sudo chown -R harbour:www-data /srv/harbour/data/files/published "
    )
    defaults = yaml.safe_load((ROOT / "roles/app/defaults/main.yml").read_text())
    assert defaults["app_web_group"] == "www-data"


def test_whether_mail_was_refused_can_be_found() -> None:
    said = section("Mail does not arrive")
    told = (ROOT / "app/mail/service.py").read_text()
    for event in ("mail.refused", "mail.not_sent"):
        assert f"EVENT={event}" in said
        assert f'"{event}"' in told
