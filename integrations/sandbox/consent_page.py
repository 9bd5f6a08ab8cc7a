"""The page on which a person approves or denies what an app asks for, as each vendor has one."""

from collections.abc import Mapping, Sequence
from html import escape
from urllib.parse import parse_qs, urlencode

from integrations.sandbox.server import Request, Response

STYLE = """body { font: 16px/1.5 system-ui, sans-serif; margin: 3rem auto; max-width: 34rem; padding: 0 1rem; color: #1c2433 }
form { border: 1px solid #d5dbe5; border-radius: 8px; padding: 1rem 1.5rem 1.5rem }
label { display: block } fieldset { border: 0; margin: 0 0 1rem; padding: 0 } legend { font-weight: 600 }
button { font: inherit; padding: .5rem 1.5rem; margin-right: .5rem; border-radius: 4px; border: 1px solid #1c2433; background: #fff }
button[value=approve] { background: #1c2433; color: #fff }"""


def consent_page(
    vendor: str, request: Request, *, person: str, question: str = "", places: Sequence[tuple[str, str]] = (), chosen: str = ""
) -> Response:
    """Return the page; `places` are values and names to choose one from. It posts to its own address."""
    scopes = "".join(f"<li><code>{escape(scope)}</code></li>" for scope in request.arg("scope").split())
    asked = (
        f"<p><strong>{escape(request.arg('client_id'))}</strong> asks for access to the account of {escape(person)}:</p><ul>{scopes}</ul>"
    )
    buttons = '<button name="answer" value="approve">Approve</button><button name="answer" value="deny">Deny</button>'
    body = f'<h1>{escape(vendor)} (sandbox)</h1><form method="post">{asked}{_choice(question, places, chosen)}{buttons}</form>'
    head = f'<meta charset="utf-8"><link rel="icon" href="data:,"><title>{escape(vendor)}: allow access?</title><style>{STYLE}</style>'
    return Response(200, f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>')


def _choice(question: str, places: Sequence[tuple[str, str]], chosen: str) -> str:
    if len(places) < 2:
        return ""
    marked = chosen if chosen in dict(places) else places[0][0]
    rows = (
        f'<label><input type="radio" name="place" value="{escape(value)}"{" checked" if value == marked else ""}> {escape(name)}</label>'
        for value, name in places
    )
    return f"<fieldset><legend>{escape(question)}</legend>{''.join(rows)}</fieldset>"


def answered(request: Request) -> dict[str, str]:
    """Return what the person chose; empty while nothing was posted."""
    return {name: values[0] for name, values in parse_qs(request.body.decode("utf-8", "replace")).items()}


def back(request: Request, told: Mapping[str, str]) -> Response:
    """Send the browser back to the app with this and the state."""
    redirect_uri = request.arg("redirect_uri")
    query = urlencode({**told, "state": request.arg("state")})
    return Response(302, None, {"Location": f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{query}"})


DENIED = {"error": "access_denied", "error_description": "The end-user or authorization server denied the request."}
