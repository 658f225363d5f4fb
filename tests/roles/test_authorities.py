"""The authorities that a host trusts beside those of its distribution: those of the inventory."""

import grp
import json
import os
import pwd
import re
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.roles.plays import ROOT, changes, refusal_of_base, run_play, task_of

BASE = ROOT / "roles/base"
FOLDER = "/usr/local/share/ca-certificates"
OWN = ("first", "second")


def read(path: str) -> Any:
    return yaml.safe_load((BASE / path).read_text())


def make(path: Path) -> Path:
    """Make an authority that has the name of its file."""
    path.parent.mkdir(exist_ok=True)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
    files = ("-keyout", os.devnull, "-out", str(path))
    subprocess.run(
        ["openssl", "req", "-x509", *key, "-subj", f"/CN={path.stem}", *files],
        check=True,
        capture_output=True,
    )
    return path


class Host:
    """A host whose folders of authorities are under another one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.local, self.store, self.shared = (
            folder / name for name in ("local", "store", "shared")
        )
        for path in (self.local, self.store, folder / "hooks"):
            path.mkdir()
        for name in OWN:
            make(self.shared / f"{name}.crt")
        (folder / "own.conf").write_text("".join(f"{name}.crt\n" for name in OWN))
        task = task_of("roles/base/tasks/packages.yml", "Trust more authorities")
        handlers = [
            handler
            for handler in read("handlers/main.yml")
            if task["notify"] in (handler["name"], handler.get("listen"))
        ]
        handlers[0]["ansible.builtin.command"]["cmd"] += (
            f" --localcertsdir {self.local} --etccertsdir {self.store} --certsdir {self.shared}"
            f" --certsconf {folder / 'own.conf'} --hooksdir {folder / 'hooks'}"
        )
        owner, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
        play = {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "environment": {"PATH": f"{os.environ['PATH']}:/usr/sbin"},
            "vars_files": [str(BASE / "defaults/main.yml")],
            "vars": read("vars/main.yml"),
            "tasks": [task],
            "handlers": handlers,
        }
        text = json.dumps(play).replace(FOLDER, str(self.local))
        text = text.replace("/var/lib/slipway-pending", str(folder / "pending"))
        text = text.replace("{'path':", f"{{'owner': '{owner}', 'group': '{group}', 'path':")
        self.play = json.loads(text)

    def apply(self, *paths: Path, check: bool = False) -> int:
        """Run the task and its handlers; return how many changed something."""
        settings = {
            "base_extra_ca_certificates": [str(path) for path in paths],
            "ansible_python_interpreter": sys.executable,
        }
        options = ("-i", "localhost,", "-e", json.dumps(settings), *(["--check"] if check else []))
        return changes(run_play(self.folder, self.play, *options))

    def trusted(self) -> set[str]:
        """Return the names of the authorities, beside those of the distribution."""
        dead = [path.name for path in self.store.iterdir() if not path.exists()]
        assert dead == []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.store / "ca-certificates.crt")
        names = set(re.findall(r"'commonName', '([^']+)'", str(context.get_ca_certs())))
        assert set(OWN) <= names
        return names - set(OWN)


def test_what_leaves_the_inventory_is_trusted_no_more(tmp_path: Path) -> None:
    host = Host(tmp_path)
    corp, lab = (make(tmp_path / "controller" / f"{name}.pem") for name in ("corp", "lab"))
    foreign = make(host.local / "foreign.crt")
    assert host.apply(corp, lab)
    assert host.trusted() == {"corp", "lab", "foreign"}
    assert host.apply(corp, lab) == 0
    assert host.apply(corp, check=True)
    assert host.trusted() == {"corp", "lab", "foreign"}
    assert host.apply(corp)
    assert host.trusted() == {"corp", "foreign"}
    assert host.apply(corp) == 0
    assert host.apply()
    assert host.trusted() == {"foreign"}
    assert list(host.local.iterdir()) == [foreign]
    assert host.apply() == 0


@pytest.mark.parametrize("check", [False, True])
def test_a_host_that_never_had_any_is_left_alone(tmp_path: Path, check: bool) -> None:
    host = Host(tmp_path)
    host.local.rmdir()
    assert host.apply(check=check) == 0
    assert not host.local.exists()
    assert not (tmp_path / "pending").exists()


def refuse(folder: Path, *paths: str) -> str:
    """What the role says of a list before it changes anything; '' when it takes it."""
    name = "Refuse two authorities of one name"
    return refusal_of_base(folder, name, {}, base_extra_ca_certificates=paths)


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    said = refuse(tmp_path, "corp/root.pem", "corp/other.pem", "lab/root.crt")
    assert "trust one of them alone: corp/root.pem, lab/root.crt. Rename the files" in said


@pytest.mark.parametrize(
    "paths", [(), ("corp/root.pem", "corp/root.pem", "corp/ROOT.pem", "lab/root-of-the-lab.pem")]
)
def test_others_are_taken(tmp_path: Path, paths: tuple[str, ...]) -> None:
    assert refuse(tmp_path, *paths) == ""
