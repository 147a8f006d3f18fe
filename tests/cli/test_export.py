"""retina export as people call it, and its file in a process without torch."""

import json
import subprocess
import sys

import pytest
from exported import small_checkpoint

from retina_plugin.cli.main import main
from retina_plugin.data.digits import generate_digits
from retina_plugin.export.runtime import ExportedModel

pytestmark = pytest.mark.slow


pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    small_checkpoint(folder)
    generate_digits(folder / "numbers", splits={"train": 4, "val": 6})
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("kind, file", [("onnx", "model.onnx"), ("openvino", "model.xml")])
def test_a_file_is_proven_equal_and_says_so(folder, kind, file, capsys):
    assert main(["export", "model.pth", "--to", kind, "--data", "numbers"]) == 0
    printed = capsys.readouterr().out
    assert "0 in only one of file and checkpoint" in printed and "AP on 6 validation images" in printed
    metadata = ExportedModel(folder / file).metadata
    assert metadata.proof["exceeds"] == [] and metadata.thresholds[3] == 0.3
    assert main(["predict", file, "numbers/val", "--output", f"out_{kind}"]) == 0
    assert len(json.loads((folder / f"out_{kind}/predictions.json").read_text())["images"]) == 6


def test_a_file_that_differs_is_not_left_behind_unless_forced(folder, capsys, monkeypatch):
    from retina_plugin.export import proof

    monkeypatch.setitem(proof.BOUNDS, "fp32", proof.Bound(0.0, 0.0, 0.05))
    assert main(["export", "model.pth", "--output", "bad.onnx", "--data", "numbers"]) == 1
    assert "is not left behind" in capsys.readouterr().out and not (folder / "bad.onnx").exists()
    assert main(["export", "model.pth", "--output", "bad.onnx", "--data", "numbers", "--force"]) == 0
    assert ExportedModel(folder / "bad.onnx").metadata.proof["exceeds"]


def test_an_exported_file_is_evaluated_like_the_checkpoint(folder, capsys):
    main(["export", "model.pth", "--output", "same.onnx", "--data", "numbers"])
    assert main(["evaluate", "same.onnx", "--data", "numbers"]) == 0
    keys = ["SOLVER.AMP.ENABLED=False", "SOLVER.AMP.PRECISION=fp32", "OUTPUT_DIR=there"]
    words = [word for key in keys for word in ("--set", key)]
    assert main(["evaluate", "model.pth", "--data", "numbers", "--device", "cpu", *words]) == 0
    theirs, ours = (json.loads((folder / x / "results.json").read_text()) for x in ("there/eval/model", "eval/same"))
    assert ours["bbox"] == pytest.approx(theirs["bbox"], abs=0.05, nan_ok=True)
    assert main(["evaluate", "same.onnx"]) == 2


def test_safetensors(folder):
    assert main(["export", "model.pth", "--to", "safetensors", "--output", "m.safetensors"]) == 0
    words = ["--device", "cpu", "--output", "out_safetensors"]
    assert main(["predict", "m.safetensors", "numbers/val", *words]) == 0


def test_prediction_imports_no_torch(folder):
    main(["export", "model.pth", "--output", "free.onnx", "--data", "numbers"])
    program = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "detectron2", "fvcore", "timm"):
            raise ImportError(name)
sys.meta_path.insert(0, Block())
from retina_plugin.cli.main import main
words = ["--output", "out_free", "--draw", "--format", "yolo", "--format", "coco"]
sys.exit(main(["predict", "free.onnx", "numbers/val", *words]))
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=folder)
    assert result.returncode == 0, result.stderr
    assert len(list((folder / "out_free/pictures").iterdir())) == 6


@pytest.mark.parametrize(
    "words, message",
    [
        (["gone.pth"], "gone.pth does not exist"),
        (["model.pth", "--precision", "bf16"], "--to onnx has the precisions"),
        (["model.pth", "--output", "x.xml"], "must end in .onnx"),
        (["model.pth", "--set", "TEST.TILES.SIZE=64"], "TEST.TILES.SIZE"),
    ],
)
def test_mistakes_are_named(words, message, capsys):
    assert main(["export", *words]) == 2
    assert message in capsys.readouterr().err
