"""Does a request carry SQL injection? libinjection judges each parameter.

Parameters are the values (and names) of the query string and of a body that is form-urlencoded or JSON, decoded as a
server would; a body of another type is one value. Multipart bodies are not taken apart and not inspected.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import libinjection
import msgspec

from middleboxes.ids.http import Request


def injection(request: Request, most: int) -> str | None:
    """The first value that is an injection; None if there is none. ``most`` parameters are judged one by one."""
    for value in parameters(request, most):
        if is_injection(value):
            return value
    return None


def is_injection(value: str) -> bool:
    """Whether libinjection takes the value for SQL injection."""
    if value.isascii() and (value.isidentifier() or value.isdecimal() or not value):
        return False  # one word or one number is one token, and no fingerprint of libinjection's is that short
    # A lone surrogate (from JSON's \ud800) has no UTF-8 form, and libinjection wants one.
    verdict: dict[str, Any] = libinjection.is_sql_injection(value.encode("utf-8", "replace").decode("utf-8"))
    return bool(verdict["is_sqli"])


def parameters(request: Request, most: int) -> Iterator[str]:
    """Every string of the request that a server might put into a query."""
    _, _, query = request.target.partition(b"?")
    if query:
        yield from _form(query, most)
    if request.body:
        yield from _body(request.body, request.content_type.lower(), most)


def _body(body: bytes, content_type: bytes, most: int) -> Iterator[str]:
    kind = content_type.partition(b";")[0].strip()
    if kind.startswith(b"multipart/"):
        return
    if kind.endswith((b"/json", b"+json")):
        yield from _json(body, most)
    elif kind in (b"", b"application/x-www-form-urlencoded"):
        yield from _form(body, most)
    else:
        yield body.decode("utf-8", "replace")


def _form(text: bytes, most: int) -> Iterator[str]:
    """Names and values of ``a=1&b=2``; what comes after ``most`` of them as one value."""
    fields = text.decode("latin-1").split("&", most)
    for name, value in parse_qsl("&".join(fields[:most]), keep_blank_values=True, errors="replace"):
        yield value
        yield name
    for rest in fields[most:]:
        yield unquote_plus(rest, errors="replace")


def _json(body: bytes, most: int) -> Iterator[str]:
    """Strings of a JSON document, names too; a body that is no JSON is one value."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        yield body.decode("utf-8", "replace")
        return
    strings = _strings(document)
    yield from islice(strings, most)
    if next(strings, None) is not None:
        yield body.decode("utf-8", "replace")


def _strings(document: object) -> Iterator[str]:
    level: list[object] = [document]
    while level:
        deeper: list[object] = []
        for item in level:
            if isinstance(item, str):
                yield item
            elif isinstance(item, list):
                deeper += item
            elif isinstance(item, dict):
                deeper += item.keys()
                deeper += item.values()
        level = deeper
