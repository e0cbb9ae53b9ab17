"""Is the web page safe to leave open, and quick? Damaged requests to a server in a process of its own, and the time that it adds to the model's."""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
import statistics
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import torch

from genrep.evaluation.draw import as_png
from genrep.evaluation.figures import Figure, at_most, plain
from genrep.evaluation.mutants import of_requests
from genrep.evaluation.timing import Progress
from genrep.model import GenRep

NUM_REQUESTS = 10_000
MOST_GROWTH_MB = 50.0
ANSWER_S = 600.0
"""How long an answer may take."""
ELSEWHERE = re.compile(r"""(?:src|href|action)\s*=\s*["']?(?!data:|#)[^\s"'>]+|url\(|@import|https?://|wss?://""")
"""What makes a browser ask for something, but for what the script asks of the page's own server."""


def serving_figures(model: GenRep, command: Sequence[str], *, quick: bool, progress: Progress) -> list[Figure]:
    """Damaged requests, then undamaged ones by the clock.

    Args:
        model: what the server serves, to be timed without it.
        command: starts the server, at a port that it says in its first line.
    """
    num = 500 if quick else NUM_REQUESTS
    with served(command) as (process, port):
        good = requests(model, port)
        for request in good:
            answered(port, request)
        before: float | None = None
        codes = Counter[int | None]()
        for i, request in enumerate(islice(of_requests(good, random.Random(0)), num)):
            codes[answered(port, request)] += 1
            if i + 1 == num // 2:
                before = memory_mb(process)
            if (i + 1) % (num // 5) == 0:
                progress(f"{i + 1} damaged requests: {said(codes)}")
        after, alive = memory_mb(process), process.poll() is None and answered(port, good[0]) == 200
        html = asked(port, "GET", "/").decode()
        image = model.generate(torch.tensor([0]), seed=0)
        png = as_png(image[0])
        work = (lambda: model.perceive(image), lambda: asked(port, "POST", "/api/see", png), lambda: asked(port, "GET", "/api/about"))
        bare, seen, about = wall_ms(work, 5 if quick else 40)
    how = f"{num} requests to `genrep serve`, of which values, words or bytes were changed, one after the other; answers: {said(codes)}"
    failed = sum(times for code, times in codes.items() if code is not None and code >= 500 and code != 503)
    figures = [
        at_most("answers that are the server's own failure", failed, 0, "answers", how),
        at_most("servers that no longer answered afterwards", 1 - alive, 0, "servers", how),
        at_most("addresses that the page asks for elsewhere", len(ELSEWHERE.findall(html)), 0, "addresses", "in the page's html, style and script"),
    ]
    if before is not None and after is not None:
        judged = not quick
        growth = "memory of the server's process" + ("" if judged else "; of so few requests not judged, as what is used once stays")
        figures.append(at_most("growth over the second half of them", after - before, MOST_GROWTH_MB, "MB", growth, judged=judged))
    times = "one picture; median, by the clock, in turn"
    return [
        *figures,
        plain("ms a picture: perceive, without the page", bare, "ms", times),
        plain("ms a picture: the same by the page, drawn", seen, "ms", times),
        plain("ms a picture: an answer that asks no model", about, "ms", times),
    ]


def wall_ms(work: Sequence[Callable[[], object]], num_rounds: int) -> list[float]:
    """Median times by the clock, since another process computes, in turn after one round that does not count."""
    spent: list[list[float]] = [[] for _ in work]
    for _ in range(num_rounds + 1):
        for times, run in zip(spent, work, strict=True):
            began = time.perf_counter()
            run()
            times.append(1000 * (time.perf_counter() - began))
    return [statistics.median(times[1:]) for times in spent]


def said(codes: Counter[int | None]) -> str:
    """How often each answer came.

    >>> said(Counter({400: 7, 200: 3, None: 1}))
    '200 x 3, 400 x 7, none x 1'
    """
    order = sorted(codes.items(), key=lambda pair: pair[0] or 1000)
    return ", ".join(f"{code or 'none'} x {times}" for code, times in order)


@contextmanager
def served(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server's process, and its port.

    Raises:
        ValueError: it does not start.
    """
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        line = process.stdout.readline()
        place = re.match(r"http://[^/]+:(\d+)/", line)
        if not place:
            raise ValueError(f"`{' '.join(command)}` does not start, as is said above.")
        yield process, int(place[1])
    finally:
        process.terminate()
        process.communicate(timeout=ANSWER_S)


def requests(model: GenRep, port: int) -> list[bytes]:
    """One undamaged request of each kind, which takes little time."""
    picture = as_png(torch.zeros(3, *model.image_size))
    order = {"classes": "0", "count": 1, "tries": 1, "sure": 0.0, "min_score": 0.9, "steps": 1, "guidance": 1.0, "seed": 0, "sampler": "euler"}
    bodies: dict[str, bytes | dict[str, object]] = {
        "see?min_score=0.5&budget=0&why=false": picture,
        "see?budget=1": picture,
        "make": {"classes": "0", "count": 1, "seed": 3, "steps": 1, "guidance": 1.0, "sampler": "euler", "seen": True},
        "choose": order,
        "keep": {"order": order, "rejected": [0]},
    }
    made = [f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode() for path in ("/", "/api/about")]
    for path, body in bodies.items():
        content, kind = (body, "image/png") if isinstance(body, bytes) else (json.dumps(body).encode(), "application/json")
        head = f"POST /api/{path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
        made.append(head.encode() + content)
    return made


def answered(port: int, request: bytes) -> int | None:
    """The code of the first answer to bytes that are sent as they are; None: no answer, as to a part of a request, after which nothing comes."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S)) as line:
        try:
            line.sendall(request)
            if not is_whole(request):
                line.shutdown(socket.SHUT_WR)
            start = line.recv(4096)
        except (ConnectionResetError, BrokenPipeError):
            return None
    found = re.match(rb"HTTP/1\.[01] (\d{3})", start)
    return int(found[1]) if found else None


def is_whole(request: bytes) -> bool:
    """Whether a server need not wait for more.

    >>> is_whole(b"GET / HTTP/1.1\\r\\n"), is_whole(b"POST / HTTP/1.1\\r\\nContent-Length: 2\\r\\n\\r\\nab")
    (False, True)
    """
    head, end, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return bool(end) and len(body) >= int(length[1] if length else 0)


def asked(port: int, method: str, path: str, body: bytes | None = None) -> bytes:
    """The answer to a request.

    Raises:
        ValueError: the server refuses.
    """
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)) as line:
        line.request(method, path, body)
        answer = line.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise ValueError(f"{path} is answered with {answer.status}: {content[:200]!r}")
        return content


def memory_mb(process: subprocess.Popen[str]) -> float | None:
    """What a process holds in memory; None where the system does not say."""
    status = Path(f"/proc/{process.pid}/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return int(found[1]) / 1024 if found else None
