"""What the inventory of production makes of the settings of our own service."""

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WANTED = ("app_environment", "app_credentials", "app_processes", "release_console_command")
PLAY = {
    "hosts": "app",
    "gather_facts": False,
    "tasks": [
        {
            "ansible.builtin.debug": {
                "msg": "{{ dict(wanted | zip(query('vars', *wanted))) | to_json | b64encode }}"
            },
        }
    ],
}


def settings(folder: Path, **said: Any) -> dict[str, Any]:
    """What the roles get on a host of production, whose inventory says something more."""
    playbook, extra = folder / "play.json", folder / "extra.json"
    playbook.write_text(json.dumps([PLAY]))
    extra.write_text(json.dumps({"wanted": WANTED, **said}))
    result = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            f"--inventory={ROOT / 'inventories/production'}",
            f"--extra-vars=@{extra}",
            str(playbook),
        ],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    found = re.search(r"msg: ([A-Za-z0-9+/=]+)", result.stdout)
    assert found, result.stdout + result.stderr
    decoded: dict[str, Any] = json.loads(base64.b64decode(found[1]))
    return decoded


def test_mail_is_not_sent_until_a_server_is_named(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert not [name for name in found["app_environment"] if "MAIL" in name]
    # The service has no pages for people: mails show their tokens until somebody says where.
    assert "APP_PUBLIC_URL" not in found["app_environment"]
    assert found["app_credentials"].keys() == {"app_token_secret"}
    assert found["app_processes"]["worker"]["addresses"] == []
    assert found["release_console_command"] == "python -m app.console"


def test_the_worker_alone_reaches_the_mail_server(tmp_path: Path) -> None:
    found = settings(
        tmp_path,
        harbour_mail_host="smtp.example.com",
        harbour_mail_addresses=["192.0.2.25/32"],
        harbour_mail_username="harbour",
        vault_mail_password="of-the-mail-server",
    )
    environment = found["app_environment"]
    assert {name: str(value) for name, value in environment.items() if "MAIL" in name} == {
        "APP_MAIL_HOST": "smtp.example.com",
        "APP_MAIL_PORT": "587",
        "APP_MAIL_SECURITY": "starttls",
        "APP_MAIL_USERNAME": "harbour",
        "APP_MAIL_FROM": "no-reply@harbour.example.com",
    }
    assert found["app_credentials"]["app_mail_password"] == "of-the-mail-server"
    assert found["app_processes"]["worker"]["addresses"] == ["192.0.2.25/32"]


def test_a_second_signing_key_is_accepted_while_it_is_there(tmp_path: Path) -> None:
    found = settings(tmp_path, vault_token_accepted_secret="the-other")
    assert found["app_credentials"]["app_token_accepted_secret"] == "the-other"
