"""Rendered files are accepted by the programs that read them, on every distribution."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.roles.rendering import DISTRIBUTIONS, ROOT

SCHEMA_UNITS = ("migrate", "contract", "restore-point")
everywhere = pytest.mark.parametrize("distribution", DISTRIBUTIONS)


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which(command[0], path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    assert program, f"{command[0]} is missing: `make test` installs what the tests need"
    return subprocess.run(
        [program, *command[1:]],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def nginx_version() -> tuple[int, ...]:
    found = re.search(r"nginx/([0-9.]+)", run("nginx", "-v").stderr)
    assert found
    return tuple(int(part) for part in found[1].split("."))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    subject = ("-subj", "/CN=test", "-days", "1", "-nodes", "-newkey", "rsa:2048")
    files = ("-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "chain.pem"))
    assert run("openssl", "req", "-x509", *subject, *files).returncode == 0
    return tmp_path


@everywhere
def test_nginx_accepts_its_configuration(
    rendered: dict[str, Path], distribution: str, certificate: Path
) -> None:
    folder = rendered[distribution]
    main = (folder / "nginx.conf").read_text()
    site = (folder / "site.conf").read_text()
    modern = distribution in {"debian-13", "ubuntu-26.04"}
    assert ("http2 on;" in site) is modern
    assert ("ssl http2" in site) is not modern
    assert ("X25519MLKEM768" in main) is modern
    assert ("ssl_reject_handshake" in main) is (distribution != "ubuntu-22.04")
    if modern and nginx_version() < (1, 25, 1):
        # What this machine's Nginx cannot know yet is written as it knows it; the rest is checked.
        main = main.replace("http2 on;", "").replace("X25519MLKEM768:", "")
        site = site.replace("http2 on;", "")
    live = "/etc/slipway/tls/quay"
    for text, name in ((main, "nginx.conf"), (site, "site.conf")):
        changed = (
            text.replace(f"{live}/fullchain.pem", str(certificate / "chain.pem"))
            .replace(f"{live}/privkey.pem", str(certificate / "key.pem"))
            .replace("/etc/nginx/conf.d/*.conf", str(certificate / "site.conf"))
            .replace("include /etc/nginx/modules-enabled/*.conf;", "")
            .replace("/run/nginx.pid", str(certificate / "pid"))
            .replace("syslog:server=unix:/dev/log,nohostname,tag=nginx_error", "stderr")
        )
        (certificate / name).write_text(changed)
    result = run("nginx", "-t", "-q", "-c", str(certificate / "nginx.conf"))
    assert result.returncode == 0, result.stderr


@everywhere
def test_nftables_accepts_the_rules(rendered: dict[str, Path], distribution: str) -> None:
    path = rendered[distribution] / "nftables.conf"
    result = run("unshare", "--net", "nft", "--check", "--file", str(path))
    assert result.returncode == 0, result.stderr
    text = path.read_text()
    assert "policy drop" in text
    assert "ip saddr { 192.0.2.0/24 } tcp dport 22 accept" in text
    assert "ip6 saddr { 2001:db8::/32 } tcp dport 22 accept" in text
    assert "ip saddr { 192.0.2.7 } tcp dport 9100 accept" in text
    assert "tcp dport { 80, 443 } accept" in text
    assert "ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept" in text


@everywhere
def test_systemd_accepts_the_units(
    rendered: dict[str, Path], distribution: str, tmp_path: Path
) -> None:
    folder = rendered[distribution]
    for path in folder.glob("quay*.*"):
        text = re.sub(r"/srv/quay/releases/%i/\.venv/bin/\w+", "/bin/true", path.read_text())
        text = re.sub(r"/usr/local/(sbin/slipway|lib/slipway/\w+\.py)", "/bin/true", text)
        (tmp_path / path.name.replace("@.", "@v1.0.0.")).write_text(text)
    units = sorted(str(path) for path in tmp_path.iterdir())
    assert len(units) == 9
    result = run("systemd-analyze", "verify", "--man=no", *units, SYSTEMD_UNIT_PATH=f"{tmp_path}:")
    lines = [line for line in result.stderr.splitlines() if str(tmp_path) in line or "quay" in line]
    assert lines == []


@everywhere
def test_the_service_cannot_reach_what_it_does_not_need(
    rendered: dict[str, Path], distribution: str
) -> None:
    unit = (rendered[distribution] / "quay@.service").read_text()
    assert "PrivateNetwork=yes" in unit
    assert "RestrictAddressFamilies=AF_UNIX\n" in unit
    assert 'gunicorn.conf.py "quay.main:app"' in unit
    assert "a-secret-of-the-test" not in unit
    assert "LoadCredential=app_token_secret:" in unit


def networks(path: Path) -> list[str]:
    """What a unit says of the network, line by line."""
    said = ("RestrictAddressFamilies=", "PrivateNetwork=", "IPAddress")
    return [line for line in path.read_text().splitlines() if line.startswith(said)]


@everywhere
def test_a_process_reaches_its_addresses_and_the_web_part_does_not(
    rendered: dict[str, Path], distribution: str
) -> None:
    folder = rendered[distribution]
    alone = ["RestrictAddressFamilies=AF_UNIX", "PrivateNetwork=yes", "IPAddressDeny=any"]
    for name in ("quay@.service", "quay.mail@.service", "run.conf"):
        assert networks(folder / name) == alone
    assert networks(folder / "quay.letters@.service") == [
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        "IPAddressDeny=any",
        "IPAddressAllow=198.51.100.0/24",
        "IPAddressAllow=any",
        "IPAddressAllow=localhost",
        "IPAddressAllow=192.0.2.53",
        "IPAddressAllow=fe80::1",
    ]


@everywhere
def test_a_program_of_an_operator_has_the_sandbox_of_the_service(
    rendered: dict[str, Path], distribution: str
) -> None:
    """All that the web part may do and read; what it needs for serving is left out."""
    program = lines(rendered[distribution] / "run.conf")
    service = lines(rendered[distribution] / "quay@.service")
    serving = ("Exec", "Type", "Notify", "Sockets", "Runtime", "Restart", "Timeout", "OOM", "Limit")
    wanted = {
        line
        for line in service[service.index("[Service]") + 1 :]
        if not line.startswith(serving) and "PROMETHEUS" not in line and "SLIPWAY_" not in line
    }
    assert wanted - set(program) == {
        "Environment=PYTHONPATH=/srv/quay/releases/%i:/usr/local/lib/slipway/gunicorn",
        "SyslogIdentifier=quay",
    }
    assert set(program) - wanted == {
        "Environment=PYTHONPATH=/srv/quay/releases/%i",
        "Environment=PYTHONUNBUFFERED=1",
        "SyslogIdentifier=quay-console",
        "LimitCORE=0",
    }


def lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and line[0] != "#"]


@everywhere
def test_only_the_restore_point_may_write_and_only_its_folder(
    rendered: dict[str, Path], distribution: str
) -> None:
    units = {name: rendered[distribution] / f"quay-{name}@.service" for name in SCHEMA_UNITS}
    for name, path in units.items():
        text = path.read_text()
        assert "User=quay-migrate\n" in text
        assert "ProtectSystem=strict\n" in text
        assert "ReadWritePaths=" not in text
        assert ("StateDirectory=slipway/quay/restore-points\n" in text) is (name == "restore-point")
        assert ("StateDirectoryMode=0700\n" in text) is (name == "restore-point")
        result = run("systemd-analyze", "security", "--offline=true", "--threshold=10", str(path))
        assert result.returncode == 0, result.stdout
    contract = units["contract"].read_text()
    assert "ExecStart=/srv/quay/releases/%i/.venv/bin/python -m migrations contract\n" in contract
    assert re.search(
        r"ExecStart=/usr/local/.* app_database_password %i\n", (units["restore-point"].read_text())
    )


@everywhere
def test_postgresql_is_the_version_of_the_distribution(
    rendered: dict[str, Path], distribution: str
) -> None:
    text = (rendered[distribution] / "postgresql.conf").read_text()
    assert "shared_buffers = '491MB'" in text
    assert "listen_addresses = ''" in text
    identities = (rendered[distribution] / "pg_ident.conf").read_text()
    assert re.search(r'slipway\s+"quay-migrate"\s+"quay_owner"', identities)


@everywhere
def test_sources_are_those_of_the_mirror(rendered: dict[str, Path], distribution: str) -> None:
    text = (rendered[distribution] / "mirror.sources").read_text()
    assert f"Suites: {DISTRIBUTIONS[distribution]['release']} " in text
    assert "http://mirror.example/archive" in text
    keyring = "debian" if distribution.startswith("debian") else "ubuntu"
    assert f"/usr/share/keyrings/{keyring}-archive-keyring.gpg" in text


@everywhere
def test_ssh_settings_fit_the_version_of_the_server(
    rendered: dict[str, Path], distribution: str
) -> None:
    text = (rendered[distribution] / "sshd.conf").read_text()
    assert "PasswordAuthentication no" in text
    assert "PermitRootLogin no" in text
    assert re.search(r"AllowGroups .*\bubuntu\b", text)
    assert ("PerSourcePenalties" in text) is (distribution in {"debian-13", "ubuntu-26.04"})
    assert ("sntrup761" in text) is (distribution != "ubuntu-22.04")


def test_gunicorn_takes_its_settings(rendered: dict[str, Path], tmp_path: Path) -> None:
    """No option is new, so that the Gunicorn of another team's lock file starts as well."""
    path = rendered["debian-12"] / "gunicorn.conf.py"
    (tmp_path / "quay.py").write_text("async def app(scope, receive, send): ...\n")
    gunicorn = [sys.executable, "-m", "gunicorn", f"--config={path}", "quay:app"]
    found = f"{tmp_path}:{ROOT / 'roles/app/files'}"
    assert run(*gunicorn, "--check-config", PYTHONPATH=found).returncode == 0
    shown = run(*gunicorn, "--print-config", PYTHONPATH=found)
    assert re.search(r"^control_socket_disable += True$", shown.stdout, re.MULTILINE), shown
    unit = (rendered["debian-12"] / "quay@.service").read_text()
    options = re.findall(r" --([a-z-]+)", next(re.finditer("^ExecStart=.*", unit, re.MULTILINE))[0])
    assert options == ["config"]


def test_any_value_survives_the_environment_file(rendered: dict[str, Path]) -> None:
    """Read back by the rules of systemd.exec(5), EnvironmentFile=."""
    text = (rendered["debian-12"] / "environment").read_text()
    line = next(line for line in text.splitlines() if line.startswith("GREETING="))
    value = re.sub(r"\\([\"\\$`])", r"\1", line.removeprefix('GREETING="').removesuffix('"'))
    assert value == 'a "quoted" $HOME 100% `date` \\ text'
