"""A web page: look at pictures, make images, make a labelled set; and the same as an interface for programs."""

from __future__ import annotations

import argparse
import os
import secrets
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from genrep.cli.arguments import add_device

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

TAKES_OVERRIDES = False
TOKEN = "GENREP_TOKEN"
MOST_CONNECTIONS = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `serve` accepts."""
    parser.add_argument("--model", type=Path, metavar="RUN|MODEL", help="a finished run, or a model folder; default: the model that comes with genrep")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; any but this machine's own asks for a token (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="0: any that is free (default: %(default)s)")
    parser.add_argument("--token", help=f"that must be known to come in (default: ${TOKEN}; else none on this machine alone, elsewhere a new one)")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Listen, until told to stop."""
    from genrep.cli.runs import model_folder, placed_model
    from genrep.model_folder import PACKAGED

    try:
        from genrep.cli.web.answers import Answers
        from genrep.cli.web.app import application
        from genrep.cli.web.door import LOOPBACK
    except ModuleNotFoundError as error:
        raise ValueError(f"`genrep serve` needs {error.name}: `pip install 'genrep[serve]'`.") from None
    with listening(args.host, args.port) as place:
        alone = is_loopback(place)
        token = args.token or os.environ.get(TOKEN) or ("" if alone else secrets.token_urlsafe(24))
        source = model_folder(args.model) if args.model else PACKAGED
        answers = Answers(placed_model(args.model), source, str(args.model or "the model that comes with genrep"))
        app = application(answers, hosts=LOOPBACK if alone else (), token=token)
        print(f"{address(place, args.host)}/{f'?token={token}' if token else ''}", flush=True)
        print("open it in a browser on this machine; " if alone else "plain http: whoever is on the way can read it; ", end="")
        print("Ctrl-C ends it", flush=True)
        with suppress(KeyboardInterrupt):
            server(app).run(sockets=[place])
    return 0


def server(app: ASGIApp) -> uvicorn.Server:
    """What speaks http for the page, within limits."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_level="error",  # nobody fills a screen, or a pipe, with requests that are none
            access_log=False,
            server_header=False,
            limit_concurrency=MOST_CONNECTIONS,
            h11_max_incomplete_event_size=2**15,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=5,
        )
    )


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        ValueError: no such address here, or the port is taken.
    """
    if not 0 <= port < 2**16:
        raise ValueError(f"`--port` must lie in 0 to {2**16 - 1}; found {port}.")
    try:
        family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ValueError(
            f"cannot listen at port {port} of {host} ({error}). Name others with `--host` and `--port`; `--port 0` takes any that is free."
        ) from None


def is_loopback(place: socket.socket) -> bool:
    """Whether nothing but this machine reaches it."""
    from ipaddress import ip_address

    return ip_address(place.getsockname()[0]).is_loopback


def address(place: socket.socket, host: str) -> str:
    """Where a browser finds it."""
    return f"http://{f'[{host}]' if ':' in host else host}:{place.getsockname()[1]}"
