"""Processes that call all three systems many times: `python -m tests.processes.calling <processes> <calls> <folder>`.

Each leaves <its number>.json in the folder: how many calls went well, and why others did not.
"""

import json
import os
import sys
from pathlib import Path

import django
from django.db import connections

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "connector_site.settings")
django.setup()

from integrations import oauth, systems  # noqa: E402 - after the set-up
from integrations.core.errors import ConnectorError  # noqa: E402
from integrations.http import ApiClient  # noqa: E402
from integrations.models import Connection  # noqa: E402

SYSTEMS = ("wave", "zendesk", "jira")


def call(client: ApiClient, system: str, name: str) -> str:
    """Read from Wave, or write something of that name elsewhere; return what went wrong."""
    fields = {"project": {"key": "BILL"}, "summary": name, "issuetype": {"name": "Task"}}
    method, path, body = {
        "wave": ("POST", "", {"query": "query { user { id } }"}),
        "zendesk": ("POST", "/api/v2/organizations/create_or_update", {"organization": {"name": name, "external_id": name}}),
        "jira": ("POST", "/rest/api/3/issue", {"fields": fields}),
    }[system]
    try:
        answer = client.send(method, path, body=body)
    except ConnectorError as error:
        return f"{system}: {type(error).__name__} {error}"
    fine = answer.ok and not client.unauthorized(answer) and "errors" not in (answer.data or {})
    return "" if fine else f"{system}: {answer.status} {answer.data or answer.text}"


def work(number: int, calls: int, folder: Path) -> None:
    """Call the systems in turn, and leave a report."""
    oauth.POLL_EVERY = 0.01  # the stand-ins answer a hundred times faster than vendors
    clients = {name: systems.client(Connection.objects.get(slug=f"{name}-main")) for name in SYSTEMS}
    found = [call(clients[name], name, f"{number}-{count}") for count in range(calls) for name in SYSTEMS]
    failed = [problem for problem in found if problem]
    (folder / f"{number}.json").write_text(json.dumps({"well": len(found) - len(failed), "failed": failed}))
    connections.close_all()


def main(processes: int, calls: int, folder: Path) -> None:
    """Become so many processes; one start of Django serves all."""
    connections.close_all()
    started = []
    for number in range(processes):
        pid = os.fork()
        if not pid:
            work(number, calls, folder)
            os._exit(0)
        started.append(pid)
    for pid in started:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
