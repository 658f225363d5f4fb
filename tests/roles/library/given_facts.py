#!/usr/bin/python
"""Gives a host the facts of a distribution that it does not run."""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule({"facts": {"type": "dict", "required": True}}, supports_check_mode=True)
    module.exit_json(changed=False, ansible_facts=module.params["facts"])


if __name__ == "__main__":
    main()
