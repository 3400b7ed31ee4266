"""Limits on requests: the host they are addressed to, and the size of the body."""

import ipaddress
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_READ_FACTOR = 10
"""A body of more than this many times `max_body_bytes` is not read to its end."""
HEADERS = {
    # pages run and show only what this server sends
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-cache",
}
"""Headers of all responses."""


class Guard:
    """Wrapper that refuses requests to other hosts and large requests, and adds headers to all responses."""

    def __init__(self, app: ASGIApp, *, names: Sequence[str], max_body_bytes: int) -> None:
        """Guard an app. `names` are the host names by which it may be addressed, besides localhost and IP addresses."""
        self._app = app
        self._names = {"localhost", *(name.casefold().rstrip(".") for name in names)}
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        host = _name_of(headers.get("host", ""))
        if not self._is_known(host):
            detail = f"host: this server does not answer to {host[:80]!r}; serve names=[NAME] adds a name"
            await _refusal(403, detail)(scope, receive, send_with_headers)
            return
        body = await self._body(receive)
        if body is None:
            detail = f"the body must have at most {self._max_body_bytes:,} bytes"
            await _refusal(413, detail)(scope, receive, send_with_headers)
            return
        await self._app(scope, _replay(body, receive), send_with_headers)

    def _is_known(self, host: str) -> bool:
        """Return whether a host is one of the names, or an IP address.

        By DNS rebinding, a page of evil.com can point that name to 127.0.0.1, so the browser counts this server as part
        of evil.com. A page cannot do so with an address.
        """
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return host in self._names
        return True

    async def _body(self, receive: Receive) -> bytes | None:
        """Read the body. Returns None if it is too large.

        Reads on after `max_body_bytes`, up to a limit, because clients read the response only after sending.
        """
        body, size, is_complete = bytearray(), 0, False
        while not is_complete and size <= MAX_READ_FACTOR * self._max_body_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            size += len(message.get("body", b""))
            if size <= self._max_body_bytes:
                body += message.get("body", b"")
            is_complete = not message.get("more_body", False)
        return bytes(body) if size <= self._max_body_bytes else None


def _name_of(host: str) -> str:
    """Return the name or address in a Host header, without its port."""
    name = host.rpartition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    return name.casefold().rstrip(".")


def _refusal(status: int, detail: str) -> JSONResponse:
    return JSONResponse({"detail": detail}, status_code=status, headers={"connection": "close"})


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a function that returns the body, which was received before, and then receives further messages."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_after_body() -> Message:
        return pending.pop() if pending else await receive()

    return receive_after_body
