"""The running lab as an Ansible inventory."""

from deploy.lab import authority, controller
from deploy.lab.settings import GROUPS, Lab


def of(lab: Lab) -> dict[str, object]:
    """Return what a dynamic inventory answers to `--list`."""
    return {
        "_meta": {
            "hostvars": {
                host.name: {
                    "ansible_host": lab.address(host.number),
                    "ansible_user": host.user,
                    "ansible_ssh_private_key_file": str(lab.state / "ssh/key"),
                    "ansible_ssh_common_args": (
                        f"-o UserKnownHostsFile={lab.state / 'ssh/known_hosts'} "
                        "-o GlobalKnownHostsFile=/dev/null -o IdentitiesOnly=yes"
                    ),
                }
                for host in lab.hosts
            }
        },
        "all": {
            "hosts": [host.name for host in lab.hosts],
            "vars": {
                "lab_domain": lab.domain,
                "lab_state": str(lab.state),
                "lab_mail_host": lab.gateway,
                "lab_mail_port": lab.mail_port,
                "lab_acme_directory": authority.directory(lab),
                "lab_ca_certificates": [
                    str(path) for path in [*controller.certificates(), *authority.trusted(lab)]
                ],
            },
        },
        **{
            group: {"hosts": [host.name for host in lab.hosts if group in host.groups]}
            for group in GROUPS
        },
    }
