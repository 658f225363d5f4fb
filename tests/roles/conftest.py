from pathlib import Path
from typing import Any

import pytest

from tests.roles.nginx_site import site
from tests.roles.rendering import render

__all__ = ["site"]

#: Another team's service, so that nothing of ours is found by accident.
SETTINGS: dict[str, Any] = {
    "app_name": "quay",
    "app_asgi": "quay.main:app",
    "app_environment": {"GREETING": 'a "quoted" $HOME 100% `date` \\ text'},
    "app_processes": {
        "mail": {"command": "python -m quay.mail"},
        "letters": {"command": "python -m quay.letters", "addresses": ["198.51.100.0/24", "any"]},
    },
    "app_deploy_user": "deploy",
    "tls_domains": ["quay.example", "www.quay.example"],
    "tls_email": "operations@quay.example",
    "base_apt_mirror": "http://mirror.example/archive",
    "firewall_ssh_sources": ["192.0.2.0/24", "2001:db8::/32"],
    "firewall_allow": [{"port": 9100, "sources": ["192.0.2.7"]}],
}


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folder of rendered files of each distribution."""
    return render(tmp_path_factory.mktemp("rendered"), SETTINGS)
