"""A web page of a small model, served in this process on a port of its own."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from genrep.cli.serve import listening, server
from genrep.cli.web.answers import Answers
from genrep.cli.web.app import application
from genrep.cli.web.door import LOOPBACK
from genrep.model import GenRep


@dataclass(frozen=True)
class Answer:
    """What came back."""

    code: int
    content: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        """The content, read."""
        return json.loads(self.content)


@dataclass(frozen=True)
class Page:
    """Where it is served."""

    port: int
    answers: Answers
    headers: Mapping[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as line:
            line.request(method, path, body, dict(headers or {}))
            answer = line.getresponse()
            return Answer(answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()})

    def post(self, path: str, value: Any) -> Answer:
        """A request with json."""
        return self.ask("POST", path, json.dumps(value).encode(), {"content-type": "application/json"})


@contextmanager
def page_of(model: GenRep, source: Path, *, token: str = "") -> Iterator[Page]:
    """The page, until the block ends."""
    answers = Answers(model, source, "small")
    with listening("127.0.0.1", 0) as place:
        serving: uvicorn.Server = server(application(answers, hosts=LOOPBACK, token=token))
        thread = threading.Thread(target=serving.run, kwargs={"sockets": [place]})
        thread.start()
        while not serving.started:
            time.sleep(0.01)
        try:
            yield Page(place.getsockname()[1], answers)
        finally:
            serving.should_exit = True
            thread.join(30)
            assert not thread.is_alive()
