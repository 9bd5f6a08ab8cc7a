"""One readable page of everything in the Zendesk stand-in, as an agent would look at it."""

from html import escape
from typing import Any

from integrations.sandbox.zendesk_fields import Fields
from integrations.sandbox.zendesk_objects import CustomObject, Record
from integrations.sandbox.zendesk_organizations import Organization
from integrations.sandbox.zendesk_records import Records
from integrations.sandbox.zendesk_users import Users

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #2f3941; background: #f3f4f6 }
article { background: #fff; border: 1px solid #d8dcde; border-radius: 6px; padding: .5rem 1.25rem 1.25rem; margin: 1.25rem 0 }
h1, h2 { color: #03363d } h3 { margin: 1.2rem 0 .4rem; font-size: 1rem }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
.scroll { overflow-x: auto }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #e9ebed; white-space: pre-line }
th { color: #68737d; font-weight: 600 } .facts th { width: 14rem } .none { color: #68737d }
.tag { background: #edf7ff; border-radius: 3px; padding: 0 .4rem; margin-right: .3rem }
"""


def render(users: Users, records: Records) -> str:
    """Return the page: each organization with its fields, its users and the records that belong to it."""
    rows = sorted(users.organizations.rows.values(), key=lambda row: row.name.casefold())
    articles = "".join(_organization(row, users, records) for row in rows) or '<p class="none">No organizations yet.</p>'
    head = f'<meta charset="utf-8"><title>Zendesk sandbox</title><style>{STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><h1>Zendesk sandbox</h1>{articles}</body></html>'


def _organization(row: Organization, users: Users, records: Records) -> str:
    tags = "".join(f'<span class="tag">{escape(tag)}</span>' for tag in row.tags)
    facts = [("External id", row.external_id), ("Details", row.details), ("Notes", row.notes)]
    facts += _titled(users.organizations.fields, row.values)
    parts = [f"<h2>{escape(row.name)}</h2>{tags}", _facts(facts), _users(row, users)]
    parts += [_records(custom_object, row, records) for custom_object in records.objects.rows.values()]
    return f"<article>{''.join(parts)}</article>"


def _titled(fields: Fields, values: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(fields.rows[key].title, value) for key, value in fields.shown(values).items()]


def _facts(facts: list[tuple[str, Any]]) -> str:
    rows = "".join(f"<tr><th>{escape(title)}</th><td>{_cell(value)}</td></tr>" for title, value in facts if value not in (None, ""))
    return f'<table class="facts">{rows}</table>'


def _users(row: Organization, users: Users) -> str:
    members = [users.rows[known.user_id] for known in users.memberships.values() if known.organization_id == row.id]
    return _table("Users", ["Name", "E-mail", "Phone"], [[user.name, user.email(), user.phone] for user in members])


def _records(custom_object: CustomObject, row: Organization, records: Records) -> str:
    titles = [definition.title for definition in custom_object.fields.rows.values() if definition.active and definition.type != "lookup"]
    keys = [definition.key for definition in custom_object.fields.rows.values() if definition.active and definition.type != "lookup"]
    found = sorted(_belonging(custom_object, row, records), key=lambda record: record.id)
    return _table(custom_object.title_pluralized, ["Name", *titles], [[one.name, *(one.values.get(key) for key in keys)] for one in found])


def _belonging(custom_object: CustomObject, row: Organization, records: Records) -> list[Record]:
    found = {record.id: record for record in records.pointing_to(custom_object, "zen:organization", str(row.id))}
    for other in records.objects.rows.values():
        for parent in records.pointing_to(other, "zen:organization", str(row.id)):
            found |= {record.id: record for record in records.pointing_to(custom_object, f"zen:custom_object:{other.key}", parent.id)}
    return list(found.values())


def _table(title: str, heads: list[str], rows: list[list[Any]]) -> str:
    if not rows:
        return f'<h3>{escape(title)}</h3><p class="none">None.</p>'
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(value)}</td>' for value in row)}</tr>" for row in rows)
    return f'<h3>{escape(title)}</h3><div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return escape(text.removesuffix("T00:00:00+00:00"))
