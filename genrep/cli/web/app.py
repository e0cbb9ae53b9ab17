"""The page as a server: what is asked where, how much may be sent, and who waits for whom."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import torch
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from genrep.cli.web.answers import Answers
from genrep.cli.web.asked import Asked, Choosing, Keeping, Making, Seeing, read
from genrep.cli.web.door import Door
from genrep.evaluation.report import templates

MOST_BYTES = 16 * 2**20
"""Of a picture."""
MOST_JSON_BYTES = 2**18
SENDING_S = 30.0
"""Time to send a request in."""
MOST_WAITING = 8
"""Requests that wait for the model; further ones are turned away."""

Answer = TypeVar("Answer")


def application(answers: Answers, *, hosts: Collection[str] = (), token: str = "") -> Door:
    """The page and its interface.

    Args:
        hosts, token: of `Door`.
    """
    queue = Queue(MOST_WAITING)
    html, policy = page(answers.about())

    async def shown(request: Request) -> Response:
        return HTMLResponse(html)

    async def about(request: Request) -> Response:
        return JSONResponse(answers.about())

    async def see(request: Request) -> Response:
        asked, content = read(Seeing, _once(request)), await sent(request, MOST_BYTES)
        return JSONResponse(await queue.done(request, lambda: answers.see(content, asked)))

    async def make(request: Request) -> Response:
        asked = await _json(request, Making)
        return JSONResponse(await queue.done(request, lambda: answers.make(asked)))

    async def choose(request: Request) -> Response:
        asked = await _json(request, Choosing)
        return JSONResponse(await queue.done(request, lambda: answers.choose(asked)))

    async def keep(request: Request) -> Response:
        asked = await _json(request, Keeping)
        content = await queue.done(request, lambda: answers.keep(asked))
        return Response(content, media_type="application/zip", headers={"content-disposition": 'attachment; filename="made.zip"'})

    posts = {"see": see, "make": make, "choose": choose, "keep": keep}
    routes = [Route("/", shown), Route("/api/about", about), *(Route(f"/api/{name}", answer, methods=["POST"]) for name, answer in posts.items())]
    known: dict[Any, Any] = {HTTPException: _refused, ValueError: _wrong, ClientDisconnect: _gone, torch.OutOfMemoryError: _full}
    return Door(Starlette(routes=routes, exception_handlers=known), hosts=hosts, token=token, policy=policy)


class Queue:
    """One request at the model, a few that wait, and no more."""

    def __init__(self, most: int) -> None:
        self._turn, self._here, self._most = asyncio.Lock(), 0, most

    async def done(self, request: Request, work: Callable[[], Answer]) -> Answer:
        """What comes of it, in a thread of its own.

        Raises:
            HTTPException: too many are waiting.
            ClientDisconnect: whoever asked has left before it was their turn.
        """
        if self._here > self._most:
            raise HTTPException(503, f"busy: {self._most} requests are waiting. Try again.", {"retry-after": "5"})
        self._here += 1
        try:
            async with self._turn:
                if await request.is_disconnected():
                    raise ClientDisconnect
                return await run_in_threadpool(work)
        finally:
            self._here -= 1


async def sent(request: Request, most: int) -> bytes:
    """The body of a request.

    Raises:
        HTTPException: it is longer than `most` bytes, or not there in time.
    """
    said = request.headers.get("content-length", "0")
    content = bytearray()
    try:
        async with asyncio.timeout(SENDING_S):
            if not said.isdecimal() or int(said) <= most:
                async for piece in request.stream():
                    content += piece
                    if len(content) > most:
                        break
                else:
                    return bytes(content)
    except TimeoutError:
        raise HTTPException(408, f"the request was not there within {SENDING_S:.0f} s.") from None
    raise HTTPException(413, f"at most {most} bytes are taken; found more.", {"connection": "close"})


async def _json(request: Request, kind: type[Asked]) -> Asked:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "`Content-Type` must be application/json.")
    content = await sent(request, MOST_JSON_BYTES)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the request is no json.") from None
    return read(kind, found)


def _once(request: Request) -> dict[str, str]:
    """What the address asks for, by name.

    Raises:
        ValueError: something twice.
    """
    pairs = request.query_params.multi_items()
    if twice := next((name for name, _ in pairs if len(request.query_params.getlist(name)) > 1), None):
        raise ValueError(f"`{twice[:60]}` is given twice; keep one.")
    return dict(pairs)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)


async def _wrong(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": " ".join(str(error).split())}, status_code=400)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)


async def _full(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "not enough memory for that; ask for fewer images."}, status_code=503)


def page(about: dict[str, Any]) -> tuple[str, str]:
    """The page, one file that asks for nothing elsewhere, and the policy that holds the browser to that."""
    pieces = templates(Path(__file__).parent)
    style, script = (pieces.get_template(name).render() for name in ("look.css.jinja", "script.js.jinja"))
    html = pieces.get_template("page.html.jinja").render(about=about, style=Markup(style), script=Markup(script))
    allowed = {
        "default-src": "'none'",
        "style-src": _hash(style),
        "script-src": _hash(script),
        "img-src": "data: blob:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return html, "; ".join(f"{name} {value}" for name, value in allowed.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
