"""Visits every page of the admin that a superuser can reach by links."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from django.contrib.auth.models import User
from django.test import Client

LINK = re.compile(rb"""(?:href|action)=["'](/admin/[^"'?#]*)""")
OBJECT = re.compile(r"/[0-9a-f-]*[0-9][0-9a-f-]*/")
ENOUGH = 3
PASSED_OVER = re.compile(r"/(logout|jsi18n|r)/")


def superuser() -> Client:
    """Return a client that is logged in as somebody who may do everything."""
    client = Client()
    client.force_login(User.objects.create_superuser("root", "root@example.com", "a long password of the tests"))
    return client


def all_pages(client: Client, most: int = 400) -> Iterator[tuple[str, Any]]:
    """Yield every page by its path, found by following links from the index; queries are left out."""
    waiting, seen, shapes = ["/admin/"], {"/admin/"}, Counter[str]()
    while waiting:
        path = waiting.pop(0)
        response = client.get(path)
        yield path, response
        found = {link.decode() for link in LINK.findall(content(response))}
        fresh = [link for link in sorted(found - seen) if not PASSED_OVER.search(link) and _is_new(link, shapes)]
        seen |= set(fresh)
        waiting += fresh
        assert len(seen) < most, "the admin has more pages than a test can visit: store less before"


def _is_new(path: str, shapes: Counter[str]) -> bool:
    """Say whether a page is worth a visit: every row's own, and a few of the pages beside it."""
    shape = OBJECT.sub("/*/", path)
    shapes[shape] += 1
    return shape.endswith("/change/") or shapes[shape] <= ENOUGH


def content(response: Any) -> bytes:
    """Return the body, read whole if it is streamed."""
    return b"".join(response.streaming_content if response.streaming else [response.content])


def shown(path: str, response: Any) -> tuple[str, bytes]:
    """Return a page with its headers, as the detector takes it."""
    return f"page {path}", str(response.headers).encode() + content(response)
