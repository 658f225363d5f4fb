"""What a newcomer is told when the demo runs."""

import os
from pathlib import Path

from deploy.lab import authority
from deploy.lab.settings import Lab


def summary(lab: Lab, version: str) -> list[str]:
    """Return how to look at the demo, use it, go on with it and end it."""
    name = f"{lab.aliases[0]}.{lab.domain}" if lab.aliases else f"{lab.hosts[0].name}.{lab.domain}"
    host = lab.hosts[0]
    bundle = Path(os.path.relpath(authority.bundle(lab)))
    address = f"{name}:443:{lab.address(host.number)}"
    service = lab.aliases[0] if lab.aliases else "service"
    return [
        f"{version} is live: https://{name}/health",
        "",
        "Ask it. Only the lab knows the name and the certificate authority, so tell curl both:",
        f"  {service}() {{ curl -sS --cacert {bundle} \\",
        f'      --resolve {address} "https://{name}$1" "${{@:2}}"; echo; }}',
        f"  {service} /health",
        "",
        "Register, log in, and write something:",
        "  json=Content-Type:application/json",
        f'  {service} /api/v1/users/register -H "$json" -d \\',
        '      \'{"username": "ada", "email": "ada@example.com", "password": "Analytical-1843"}\'',
        f"  token=$({service} /api/v1/auth/token -d username=ada -d password=Analytical-1843 |",
        "      python3 -c 'import json, sys; print(json.load(sys.stdin)[\"access_token\"])')",
        f'  {service} /api/v1/items -H "Authorization: Bearer $token" -H "$json" -d \\',
        '      \'{"title": "Sextant", "price": "120.00", "quantity": 3}\'',
        "",
        "Read the logs, on the host:",
        "  make lab-ssh",
        f"  journalctl -u '{service}@*' -f          # as it comes",
        "  journalctl REQUEST_ID=…                # one request, by the X-Request-ID of its answer",
        "  slipway status; slipway history        # releases",
        "",
        f"Read the mail that it has sent: {Path(os.path.relpath(lab.mail))}",
        "",
        "Release again, after a commit, and go back:",
        "  make tag VERSION=v… && make release VERSION=v…",
        "  make rollback",
        "",
        "Take it down: make demo-down",
    ]
