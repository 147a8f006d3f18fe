"""retina serve: the answers, what is refused, the page in a browser, and an exported file without torch."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from exported import exact_predictor, photos, small_checkpoint
from support import CHROMIUM

from retina_plugin.cli.main import main

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

pytestmark = pytest.mark.slow

RUN = "import sys; from retina_plugin.cli.main import main; sys.exit(main(sys.argv[1:]))"

BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "detectron2", "fvcore", "timm", "matplotlib"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve")
    small_checkpoint(folder)
    photos(folder / "photos")
    return folder


def serve(folder, file, before=""):
    """Start a server, and return its process and address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-c", before + RUN, "serve", str(folder / file), "--port", str(port)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    address = f"http://127.0.0.1:{port}"
    for _ in range(240):
        with socket.socket() as there:
            if there.connect_ex(("127.0.0.1", port)) == 0:
                return process, address
        assert process.poll() is None, process.stderr.read()[-2000:]
        time.sleep(0.25)
    raise TimeoutError("the server does not answer")


@pytest.fixture(scope="module")
def address(folder):
    process, address = serve(folder, "model.pth")
    yield address
    process.terminate()
    process.wait()


def post(address, content):
    request = urllib.request.Request(f"{address}/predict", data=content, method="POST")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_the_answer_has_the_detections_of_the_predictor(folder, address):
    file = folder / "photos/2.png"
    status, answer = post(address, file.read_bytes())
    expected = exact_predictor(folder / "model.pth", score_thresh="best")(str(file))["instances"]
    assert status == 200 and (answer["height"], answer["width"]) == (300, 400)
    assert abs(len(answer["detections"]) - len(expected)) <= 2 and len(expected)  # in the precision of the config
    scores = [x["score"] for x in answer["detections"]]
    np.testing.assert_allclose(scores[:5], expected.scores[:5], atol=0.02)
    model = json.loads(urllib.request.urlopen(f"{address}/model").read())
    assert all(x["class"] == model["class_names"][x["label"]] for x in answer["detections"])


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_what_is_no_image_is_refused(address, content):
    status, answer = post(address, content)
    assert status == 400 and answer["detail"].startswith("not an image that can be used: ")


def test_an_exported_file_is_served_without_torch(folder, address):
    pytest.importorskip("onnxruntime")
    assert main(["export", str(folder / "model.pth"), "--output", str(folder / "model.onnx")]) == 0
    process, other = serve(folder, "model.onnx", BLOCK)
    try:
        content = (folder / "photos/0.png").read_bytes()
        (status, answer), (_, expected) = post(other, content), post(address, content)
        assert status == 200 and abs(len(answer["detections"]) - len(expected["detections"])) <= 2
    finally:
        process.terminate()
        process.wait()


def test_a_person_drops_an_image_on_the_page(folder, address, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no browser here")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 420, "height": 900})
        errors = []
        page.on("pageerror", lambda error: errors.append(error))
        page.goto(address)
        page.set_input_files("#file", str(folder / "photos/2.png"))
        page.wait_for_selector("#canvas:not([hidden])")
        assert "of 400 x 300 pixels" in page.inner_text("#status")
        count = page.locator("#table tr").count()
        page.evaluate("byId('score').value = 1; draw()")
        assert count > 1 and page.locator("#table tr").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
        text = tmp_path / "text.png"
        text.write_text("no image")
        page.set_input_files("#file", str(text))
        page.wait_for_function("document.getElementById('status').textContent.startsWith('not an image')")
        assert not errors
        browser.close()


@pytest.mark.parametrize(
    "words, message",
    [
        (["model.pth", "--score", "2"], "--score must be"),
        (["model.pth", "--port", "99999"], "--port must be"),
        (["gone.pth"], "gone.pth"),
        (["x.onnx", "--device", "cpu"], "--device needs the checkpoint"),
    ],
)
def test_mistakes_are_named(folder, monkeypatch, words, message, capsys):
    monkeypatch.chdir(folder)
    assert main(["serve", *words]) == 2
    assert message in capsys.readouterr().err
