"""`genrep serve`: answers are the model's, sets read back, and nobody comes in, or gets more, than should."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from serving import Page, page_of
from small_models import small_model

from genrep.cli.main import main
from genrep.datasets import read_folder
from genrep.evaluation.draw import as_png, to_picture
from genrep.evaluation.mutants import of_requests
from genrep.evaluation.serving_bench import ELSEWHERE, answered, requests
from genrep.model import GenRep
from genrep.posteriors.calibration import Calibration
from genrep.samplers import Euler

EULER = {"steps": 2, "sampler": "euler", "guidance": 1.0}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of all tasks, with a posterior."""
    model = small_model(tasks=("classification", "detection", "segmentation", "depth"))
    model.calibration = Calibration(tau=0.3, bias=(0.1, 0.2, 0.3, 0.4))
    folder = tmp_path_factory.mktemp("served") / "model"
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(source: Path) -> GenRep:
    return GenRep.from_pretrained(source)


@pytest.fixture(scope="module")
def page(model: GenRep, source: Path) -> Iterator[Page]:
    with page_of(model, source) as served:
        yield served


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def photo(model: GenRep, seed: int = 0) -> tuple[bytes, torch.Tensor]:
    """A grey picture of the model's size, as a file and as the model reads it."""
    grey = torch.randint(0, 256, (1, *model.image_size), generator=torch.Generator().manual_seed(seed)).expand(3, -1, -1)
    image = grey.float() / 127.5 - 1
    return as_png(image), image


def test_a_picture_is_seen_as_by_the_model(page: Page, model: GenRep) -> None:
    content, image = photo(model)
    found = page.ask("POST", "/api/see?budget=2&why=true&min_score=0", content).json
    seen = model.perceive(image[None])
    assert seen.class_log_probs is not None and seen.detections is not None
    assert found["class_probabilities"] == pytest.approx(dict(zip("abcd", seen.class_log_probs[0].exp().tolist(), strict=True)), abs=1e-6)
    assert sum(found["posterior"].values()) == pytest.approx(1) and set(found["posterior"]) == set("abcd")
    assert len(found["objects"]) > 0 and found["size"] == [16, 16] and found["changes"] == ""
    assert np.array_equal(pixels(found["pictures"]["picture"])[::16, ::16], to_picture(image))
    assert {"overlay", "depth", "why"} < set(found["pictures"])


def test_a_picture_of_another_size_and_in_colour_is_taken_and_its_boxes_are_its_own(page: Page) -> None:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 64, 3), np.uint8)).save(content, "JPEG")
    found = page.ask("POST", "/api/see?min_score=0", content.getvalue()).json
    assert found["changes"] == "made grey, resized from 40 x 64 to 16 x 16" and found["size"] == [40, 64]
    assert max(one["box_xyxy_px"][2] for one in found["objects"]) > 20 and "posterior" not in found


def test_images_are_those_that_the_model_makes_of_the_seed(page: Page, model: GenRep) -> None:
    found = page.post("/api/make", {"classes": "b,a+c", "count": 2, "seed": 5, "seen": True, **EULER}).json["rows"]
    wanted = torch.tensor([[0.0, 1, 0, 0], [1.0, 0, 1, 0]]).repeat_interleave(2, 0)
    made = model.generate(wanted, seed=5, sampler=Euler(num_steps=2))
    assert [row["name"] for row in found] == ["b", "a+c"] and all(len(row["seen"]) == 2 for row in found)
    for i, uri in enumerate(uri for row in found for uri in row["images"]):
        assert np.array_equal(pixels(uri), to_picture(made[i]))


def test_a_set_is_what_was_offered_less_what_was_rejected_and_reads_back(page: Page, tmp_path: Path, source: Path) -> None:
    order = {"classes": "b", "count": 5, "tries": 4, "sure": 0.0, "min_score": 1.0, "seed": 1, **EULER}
    (wanted,) = page.post("/api/choose", order | {"classes": "b"}).json["lots"]
    assert wanted["images"] == []  # a detector must see the object asked for
    with page_of(small_model(tasks=("classification",)), source) as other:
        (lot,) = other.post("/api/choose", order).json["lots"]
        indices = [one["index"] for one in lot["images"]]
        assert len(indices) == 5 == lot["num"]
        answer = other.post("/api/keep", {"order": order, "rejected": indices[1:3]})
        assert answer.headers["content-disposition"] == 'attachment; filename="made.zip"'
        zipfile.ZipFile(io.BytesIO(answer.content)).extractall(tmp_path / "made")
        refused = other.post("/api/keep", {"order": order, "rejected": [999]})
        assert refused.code == 400 and refused.json["error"] == "`rejected` names 999, which was not offered by this order."
        nothing = other.post("/api/keep", {"order": order, "rejected": indices})
        assert nothing.code == 400 and "nothing is left of it" in nothing.json["error"]
    data = [read_folder(tmp_path / "made", split, image_size=(16, 16), channels=1)[0] for split in ("train", "val")]
    assert sum(map(len, data)) == 3 and data[0].class_names == ("a", "b", "c", "d") and set(data[0].label.tolist()) == {1}
    read = {each.tobytes() for part in data for each in part.pixels.numpy()}
    assert read == {pixels(lot["images"][i]["picture"])[..., 0].tobytes() for i in (0, 3, 4)}
    provenance = json.loads((tmp_path / "made" / "provenance.json").read_text())
    assert provenance["tally"] == {"b": {"made": 5, "kept": 3}} and provenance["command"].startswith("genrep serve: {")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("make", {"classes": "e"}, "unknown class `e`"),
        ("make", {"count": 0}, "`count`: input should be greater than or equal to 1; found 0."),
        ("make", {"counts": 1}, "`counts`: extra inputs are not permitted; found 1. It has classes, count, seed"),
        ("make", {"count": 100}, "400 images are more than the 128 that one request may have"),
        ("make", {"count": 30, "steps": 250}, "120 images of 250 steps are 30000 evaluations"),
        ("make", {"sampler": "eulre"}, "unknown sampler `eulre`"),
        ("make", {"guidance": float("nan")}, "`guidance`: input should be a finite number; found nan."),
        ("make", [1], "`request`: input should be a valid dictionary"),
        ("make", {"classes": "a@0:0:99:8"}, "a place must lie in the image"),
        ("choose", {"classes": "a,a"}, "names something twice"),
        ("choose", {"classes": "a", "sure": 2}, "`sure`: input should be less than or equal to 1"),
        ("keep", {"rejected": [1]}, "`order`: field required"),
        ("see?budget=x", b"", "`budget`: input should be a valid integer"),
        ("see?budget=1&budget=2", b"", "`budget` is given twice; keep one."),
        ("see?why=true", "photo", "`why` needs the generative side: give a `budget`, too."),
        ("see", b"", "the picture: cannot be read as a picture (of no known format; formats: JPEG, PNG, WEBP, BMP)."),
        ("see", b"GIF89a", "cannot be read as a picture"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(page: Page, model: GenRep, path: str, value: Any, said: str) -> None:
    body = photo(model)[0] if value == "photo" else value if isinstance(value, bytes) else None
    answer = page.post(f"/api/{path}", value) if body is None else page.ask("POST", f"/api/{path}", body)
    assert answer.code == 400 and said in answer.json["error"] and "\n" not in answer.json["error"]


def test_json_is_asked_for_as_json(page: Page) -> None:
    """A form of another site cannot send it."""
    assert page.ask("POST", "/api/make", b"{}", {"content-type": "text/plain"}).code == 415
    assert page.ask("POST", "/api/make", b"{", {"content-type": "application/json"}).json["error"] == "the request is no json."
    assert page.ask("POST", "/api/make", b"[" * 100_000, {"content-type": "application/json"}).code == 400
    assert page.ask("GET", "/api/make").code == 405 and page.ask("GET", "/nothing").code == 404


def test_no_more_is_taken_in_than_is_wanted(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    assert page.ask("POST", "/api/make", b" " * (2**18 + 1), {"content-type": "application/json"}).code == 413
    with socket.create_connection(("127.0.0.1", page.port)) as line:  # a length that is not said
        line.sendall(b"POST /api/make HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
        line.sendall(b"40001\r\n" + b" " * (2**18 + 1) + b"\r\n")
        assert b" 413 " in line.recv(4096)
    monkeypatch.setattr("genrep.cli.web.app.SENDING_S", 0.1)
    with socket.create_connection(("127.0.0.1", page.port)) as line:
        line.sendall(b"POST /api/make HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        assert b" 408 " in line.recv(4096)


def test_few_wait_and_the_others_are_told_to_come_again(page: Page, model: GenRep, monkeypatch: pytest.MonkeyPatch) -> None:
    go, started = threading.Event(), threading.Event()

    def slow(*_: Any) -> dict[str, Any]:
        started.set()
        assert go.wait(60)
        return {}

    monkeypatch.setattr(page.answers, "see", slow)
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(page.ask("POST", "/api/see", b"x").code)) for _ in range(12)]
    threads[0].start()
    assert started.wait(60)
    for thread in threads[1:]:
        thread.start()
    while len(codes) < 3:
        time.sleep(0.01)
    assert codes == [503] * 3 and page.ask("GET", "/api/about").code == 200  # what asks no model does not wait
    go.set()
    for thread in threads:
        thread.join(60)
    assert sorted(codes) == [200] * 9 + [503] * 3


def test_other_names_and_other_sites_do_not_come_in(page: Page) -> None:
    host = f"127.0.0.1:{page.port}"
    assert page.ask("GET", "/api/about", headers={"host": "evil.example"}).code == 403
    assert page.ask("GET", "/api/about", headers={"origin": "http://evil.example"}).code == 403
    assert page.ask("GET", "/api/about", headers={"origin": "null"}).code == 403
    assert page.ask("GET", "/api/about", headers={"origin": f"http://{host}"}).code == 200
    assert page.ask("GET", "/api/about", headers={"host": f"localhost:{page.port}"}).code == 200


def test_with_a_token_only_who_knows_it_comes_in(model: GenRep, source: Path) -> None:
    with page_of(model, source, token="s3cret") as page:
        for path in ("/", "/api/about", "/?token=s3cre", "/api/about?token=s3cret", "/nothing"):
            assert page.ask("GET", path).code == 401
        for wrong in ({"authorization": "Bearer other"}, {"cookie": "genrep_token=x"}, {"authorization": "Bearer \xe9"}):
            assert page.ask("GET", "/", headers=wrong).code == 401
        assert page.ask("GET", "/api/about", headers={"authorization": "Bearer s3cret"}).json["class_names"] == list("abcd")
        first = page.ask("GET", "/?token=s3cret")
        assert (first.code, first.headers["location"]) == (303, "/")
        cookie, *flags = first.headers["set-cookie"].split("; ")
        assert {"HttpOnly", "SameSite=strict"} <= set(flags) and page.ask("GET", "/", headers={"cookie": cookie}).code == 200


def test_the_page_asks_for_nothing_elsewhere_and_runs_only_its_own_script(page: Page) -> None:
    answer = page.ask("GET", "/")
    html, policy = answer.content.decode(), answer.headers["content-security-policy"]
    assert not ELSEWHERE.findall(html) and "default-src 'none'" in policy and answer.headers["x-content-type-options"] == "nosniff"
    for kind, tag in (("style", "style"), ("script", "script")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.S)
        assert f"{kind}-src 'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'" in policy


def test_names_of_classes_are_no_markup(source: Path) -> None:
    with page_of(small_model(class_names=("</script><b>", '"', "c", "d"), tasks=("classification",)), source) as page:
        html = page.ask("GET", "/").content.decode()
    assert "</script><b>" not in html and json.loads(re.findall(r'id="about">(.*?)</script>', html)[0])["class_names"][0] == "</script><b>"


def test_damaged_requests_are_answered_or_left(page: Page, model: GenRep) -> None:
    good = requests(model, page.port)
    assert {answered(page.port, request) for request in good} <= {200, 400}
    codes = [answered(page.port, request) for request in islice(of_requests(good, Random(1)), 200)]
    assert not [code for code in codes if code is not None and code >= 500] and codes.count(200) > 3
    assert page.ask("GET", "/api/about").code == 200


def test_the_command_says_where_and_ends_when_told(source: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "genrep", "serve", "--model", str(source), "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        place = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\n", process.stdout.readline())
        assert place and answered(int(place[1]), f"GET / HTTP/1.1\r\nHost: localhost:{place[1]}\r\n\r\n".encode()) == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0 and "Ctrl-C ends it" in process.stdout.read()
    finally:
        process.kill()
        process.stdout.close()


def test_a_port_that_is_taken_is_one_line(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", str(page.port)]) == 2 == main(["serve", "--port", "99999"])
    first, second = capsys.readouterr().err.splitlines()
    assert f"cannot listen at port {page.port} of 127.0.0.1" in first and "`--port` must lie in 0 to 65535; found 99999" in second


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no browser here")
def test_a_browser_shows_it(page: Page, tmp_path: Path) -> None:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", f"--user-data-dir={tmp_path}", "--dump-dom"]
    done = subprocess.run(["chromium", *flags, f"http://127.0.0.1:{page.port}/#make"], capture_output=True, text=True, timeout=120, check=True)
    assert re.search(r'data-tab="make"[^>]*aria-selected="true"', done.stdout) and '<button type="button">d</button>' in done.stdout
