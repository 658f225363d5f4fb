"""Renders many templates for a host at once, each as `ansible.builtin.template` would."""

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader


class ActionModule(ActionBase):  # type: ignore[misc]  # Ansible has no types
    """Writes files on the controller: one task a host is a fraction of one task a file."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> Any:
        """Render each template of `templates` into a file of the folder `folder`."""
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        lookup = lookup_loader.get("ansible.builtin.template", self._loader, self._templar)
        for wanted in self._task.args["templates"]:
            own = {"template_vars": wanted["variables"]}
            (text,) = lookup.run([wanted["template"]], variables, **own)
            (Path(self._task.args["folder"]) / wanted["file"]).write_text(text)
        return result
