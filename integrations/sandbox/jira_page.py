"""Show the stand-in as one HTML page: a board per project, a column per status, a card per issue."""

from html import escape
from typing import Any

from integrations.sandbox.jira_adf import plain_text
from integrations.sandbox.jira_shapes import duration
from integrations.sandbox.jira_site import Field, Issue, Project, Site

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem; color: #172b4d; background: #fff; }
.board { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
.column { flex: 1 1 20rem; background: #f1f2f4; border-radius: 6px; padding: .25rem 1rem 1rem; }
.card { background: #fff; border: 1px solid #dcdfe4; border-radius: 6px; padding: .75rem; margin-top: .75rem; overflow-wrap: anywhere; }
.card h4 { margin: 0 0 .5rem; }
.label { background: #e9f2ff; border-radius: 3px; padding: 0 .4rem; margin-right: .25rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .75rem; margin: 0; }
dt { color: #44546f; } dd { margin: 0; white-space: pre-line; }
"""


def board(site: Site) -> str:
    """Return the page."""
    body = "".join(_project(site, project) for project in site.projects.values())
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Jira sandbox</title>'
    return f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body><h1>Jira sandbox</h1>{body}</body></html>'


def _project(site: Site, project: Project) -> str:
    statuses = dict.fromkeys(status for flow in project.workflows.values() for status in flow.statuses)
    columns = "".join(_column(site, project, status) for status in statuses)
    return f'<h2>{escape(project.name)} ({escape(project.key)})</h2><div class="board">{columns}</div>'


def _column(site: Site, project: Project, status: str) -> str:
    issues = [issue for issue in site.issues.values() if (issue.project, issue.status) == (project.key, status)]
    cards = "".join(_card(site, issue) for issue in issues)
    return f'<section class="column"><h3>{escape(status)} ({len(issues)})</h3>{cards}</section>'


def _card(site: Site, issue: Issue) -> str:
    labels = "".join(f'<span class="label">{escape(label)}</span>' for label in issue.values.get("labels", []))
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in _lines(site, issue))
    title = f"{escape(issue.key)} {escape(str(issue.values.get('summary', '')))}"
    return f'<article class="card" id="{escape(issue.key)}"><h4>{title}</h4><p>{labels}</p><dl>{lines}</dl></article>'


def _lines(site: Site, issue: Issue) -> list[tuple[str, str]]:
    lines = [("Type", issue.type)]
    shown = [entry for entry in site.fields.values() if entry.id not in ("summary", "labels") and entry.id in issue.values]
    lines += [(entry.name, _text(entry, issue.values[entry.id])) for entry in shown]
    lines += [("Worklog", f"{log.started:%Y-%m-%d} {duration(log.seconds)} {plain_text(log.comment)}") for log in issue.worklogs]
    lines += [("Comment", plain_text(comment.body)) for comment in issue.comments]
    return lines + [("Link", f"{link['object']['title']} {link['object']['url']}") for link in issue.links]


def _text(entry: Field, value: Any) -> str:
    if entry.kind == "textarea":
        return plain_text(value)
    return ", ".join(value) if isinstance(value, list) else str(value)
