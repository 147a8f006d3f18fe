"""The application behind `retina serve`, in this process: limits and answers. The command is tested in tests/cli."""

from pathlib import Path

import numpy as np
import pytest

from retina_plugin.inference.stream import Found

pytest.importorskip("httpx")
server = pytest.importorskip("retina_plugin.inference.server", reason="fastapi is not installed")
testclient = pytest.importorskip("fastapi.testclient")


class Fixed:
    """A predictor that finds one object in everything."""

    class_names = ("<cat>", "dog")
    max_pixels = 10**8
    has_views = False

    def map_file(self, file):
        if Path(file).read_bytes() == b"no image":
            raise ValueError("no image")
        return {"height": 30, "width": 40}

    def run(self, records, passed):
        box = np.array([[1, 2, 3, 4]], np.float32)
        return [Found(box, np.array([0.5], np.float32), np.array([0])) for _ in records]


@pytest.fixture
def client():
    return testclient.TestClient(server.build_app(Fixed(), name="a & b", score=0.25))


def test_an_answer_has_size_time_and_detections(client):
    answer = client.post("/predict", content=b"image").json()
    assert answer.pop("milliseconds") >= 0
    found = {"box": [1.0, 2.0, 3.0, 4.0], "score": 0.5, "label": 0, "class": "<cat>"}
    assert answer == {"height": 30, "width": 40, "detections": [found]}


def test_the_page_escapes_names_and_starts_with_the_score(client):
    text = client.get("/").text
    assert "<title>a &amp; b</title>" in text and "&lt;cat&gt;" in text and 'value="0.25"' in text


def test_what_cannot_be_read_or_is_too_large_is_refused(client, monkeypatch):
    assert client.post("/predict", content=b"no image").status_code == 400
    monkeypatch.setattr(server, "MOST_BYTES", 10)
    answer = client.post("/predict", content=b"x" * 11)
    assert answer.status_code == 413 and "MiB" in answer.json()["detail"]
