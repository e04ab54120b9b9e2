"""ASGI and WSGI middleware: puts the request's id and trace into context variables and changes nothing else.

A capture without a request id uses this one: `X-Request-Id` of the request, or a new UUID.
"""

import contextlib
import re
import uuid
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextvars import Token
from typing import Any

from gnomon_producer.trace import request_id_of_context, traceparent_of_context

MAX_REQUEST_ID = 200
"""Characters; a longer X-Request-Id is an error or an attack, and a UUID replaces it."""

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""The format of W3C Trace Context, version 00."""

_HEADERS = (b"x-request-id", b"traceparent")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def current_request_id() -> str | None:
    """Return the id of the request being served, None outside of one."""
    return request_id_of_context.get()


class GnomonASGIMiddleware:
    """Wraps an ASGI application: `app.add_middleware(GnomonASGIMiddleware)`."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of the application."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name: value for name, value in scope.get("headers") or () if name in _HEADERS}
        with _Found(*(headers.get(name, b"").decode("latin-1") for name in _HEADERS)):
            await self._app(scope, receive, send)


class GnomonWSGIMiddleware:
    """Wraps a WSGI application: `app.wsgi_app = GnomonWSGIMiddleware(app.wsgi_app)`."""

    def __init__(self, app: WsgiApp) -> None:
        self._app = app

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request of the application."""
        with _Found(str(environ.get("HTTP_X_REQUEST_ID", "")), str(environ.get("HTTP_TRACEPARENT", ""))):
            return self._app(environ, start_response)


class _Found:
    """A request's id and trace, in the context variables while it is served."""

    def __init__(self, request_id: str, traceparent: str) -> None:
        usable = 0 < len(request_id) <= MAX_REQUEST_ID and request_id.isprintable()
        self._request_id = request_id if usable else str(uuid.uuid4())
        self._traceparent = traceparent if _TRACEPARENT.fullmatch(traceparent) else None
        self._tokens: tuple[Token[str | None], Token[str | None]] | None = None

    def __enter__(self) -> None:
        self._tokens = (request_id_of_context.set(self._request_id), traceparent_of_context.set(self._traceparent))

    def __exit__(self, *_error: object) -> None:
        if self._tokens is not None:
            # A server that ends a request in another context has already discarded the variables.
            with contextlib.suppress(ValueError):
                request_id_of_context.reset(self._tokens[0])
                traceparent_of_context.reset(self._tokens[1])
