"""Who comes in: hosts, tokens, other sites' pages, and what every answer tells the browser."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "genrep_token"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Door:
    """Lets requests through to the page that come from itself or from programs, and know the token where there is one.

    Args:
        hosts: names that the page may be called by, so that no other name can be made to lead here (DNS rebinding); empty: any.
        token: what must be known, as `?token=` of the page's address, a cookie that it sets, or `Authorization: Bearer`; empty: nothing.
        policy: the content security policy of every answer.
    """

    def __init__(self, page: ASGIApp, *, hosts: Collection[str], token: str, policy: str) -> None:
        self._page, self._hosts, self._token = page, hosts, token
        self._headers = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cache-control": "no-store",
            "cross-origin-resource-policy": "same-origin",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        answer = self._at_the_door(Request(scope)) or self._page
        await answer(scope, receive, sent)

    def _at_the_door(self, request: Request) -> Response | None:
        """What is answered to those who do not come in; None: they do."""
        host = request.headers.get("host", "")
        if self._hosts and _without_port(host) not in self._hosts:
            return _refused(f"this page is called {' or '.join(self._hosts)}; found another host.")
        origin = request.headers.get("origin")
        if origin is not None and _authority(origin) != host:
            return _refused("pages of other sites may not ask here.")
        if not self._token or self._knows(request.cookies.get(COOKIE, "")) or self._knows(request.headers.get("authorization", "").removeprefix("Bearer ")):
            return None
        if request.method == "GET" and request.url.path == "/" and self._knows(request.query_params.get("token", "")):
            answer = RedirectResponse("/", status_code=303)  # the token leaves the address
            answer.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            return answer
        return _refused("a token is needed: open the address that `genrep serve` has printed, or send `Authorization: Bearer TOKEN`.", 401)

    def _knows(self, said: str) -> bool:
        return hmac.compare_digest(said.encode("utf-8", "replace"), self._token.encode())


def _without_port(host: str) -> str:
    """
    >>> _without_port("localhost:7860"), _without_port("[::1]:80"), _without_port("[::1]")
    ('localhost', '[::1]', '[::1]')
    """
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


def _authority(origin: str) -> str | None:
    """Host and port of an origin; None of what is none.

    >>> _authority("http://localhost:7860"), _authority("null"), _authority("http://[")
    ('localhost:7860', '', None)
    """
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _refused(why: str, code: int = 403) -> Response:
    return JSONResponse({"error": why}, status_code=code)
