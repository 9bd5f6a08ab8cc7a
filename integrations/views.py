"""The webhook endpoint."""

from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, RawPostDataException
from django.http.request import UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from integrations import hints, inbox, registry


@csrf_exempt
def webhook(request: HttpRequest, system: str, connection_id: UUID) -> HttpResponse:
    """Take one delivery: POST only, at most WEBHOOK_MAX_BYTES, raw bytes."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    body = _body(request)
    if body is None:
        return HttpResponse("too large", status=413, content_type="text/plain")
    receive = hints.receive if system in registry.DESTINATIONS else inbox.receive
    reply = receive(system, connection_id, request.headers, body)
    response = HttpResponse(reply.text, status=reply.status, content_type="text/plain")
    if reply.retry_after is not None:
        response["Retry-After"] = str(reply.retry_after)
    return response


def _body(request: HttpRequest) -> bytes | None:
    """Return the raw body, None when it is larger than we take; a body cut on its way counts as what arrived."""
    given = str(request.META.get("CONTENT_LENGTH") or "0")
    if given.isdecimal() and int(given[:12]) > settings.WEBHOOK_MAX_BYTES:
        return None
    try:
        body = request.read(settings.WEBHOOK_MAX_BYTES + 1)
    except (UnreadablePostError, RawPostDataException):
        return b""
    return body if len(body) <= settings.WEBHOOK_MAX_BYTES else None
