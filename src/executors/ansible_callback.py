"""Appends what a playbook does to the file named by MC_ANSIBLE_EVENTS, one JSON object a line.

Standard output stays what it is. Works with ansible-core 2.14 to 2.19: only what both have is used.
"""

import json
import os

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: masterchief_events
type: notification
short_description: Events for MasterChief
description: Writes one JSON object a line for each play, each task and each result.
"""

WORDS_MAX = 400


def words(result):
    """The decisive words of a result. What no_log hides was taken out before it came here."""
    msg = result.get("msg") or ""
    for item in result.get("results") or []:
        if isinstance(item, dict) and (item.get("failed") or item.get("unreachable")):
            return words(item)
    if msg in ("", "non-zero return code"):
        errors = str(result.get("stderr") or result.get("module_stderr") or "").strip().splitlines()
        msg = errors[-1] if errors else msg
        if not msg and result.get("censored"):
            msg = "its output is hidden by no_log"
    # ansible-core 2.19 says first that the task failed, which is known.
    return " ".join(str(msg).split()).removeprefix("Task failed: ")[:WORDS_MAX]


class CallbackModule(CallbackBase):
    """Told of every event by Ansible."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "masterchief_events"
    # Loaded wherever it lies, so that what a project enables by itself stays enabled.
    CALLBACK_NEEDS_ENABLED = False

    def _write(self, event, **more):
        path = os.environ.get("MC_ANSIBLE_EVENTS")
        if not path:
            return
        line = json.dumps(dict(more, event=event)) + "\n"
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode("utf-8", "replace"))
        finally:
            os.close(file)

    def _host(self, status, result, ignored=False):
        changed = bool(result._result.get("changed"))
        said = words(result._result) if status in ("failed", "unreachable") else ""
        task = result._task.get_name().strip()[:WORDS_MAX]
        self._write(status, host=result._host.get_name(), task=task, changed=changed, ignored=bool(ignored), msg=said)

    def v2_playbook_on_play_start(self, play):
        self._write("play", name=play.get_name().strip()[:WORDS_MAX], check=bool(play.check_mode))

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._write("task", name=task.get_name().strip()[:WORDS_MAX])

    def v2_playbook_on_handler_task_start(self, task):
        self._write("task", name=task.get_name().strip()[:WORDS_MAX])

    def v2_runner_on_ok(self, result):
        self._host("ok", result)

    def v2_runner_on_skipped(self, result):
        self._host("skipped", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        self._host("failed", result, ignore_errors)

    def v2_runner_on_unreachable(self, result):
        self._host("unreachable", result, getattr(result._task, "ignore_unreachable", False))

    def v2_playbook_on_no_hosts_matched(self):
        self._write("no_hosts")

    def v2_playbook_on_stats(self, stats):
        for host in sorted(stats.processed):
            self._write("stats", host=host, **stats.summarize(host))
        self._write("end")
