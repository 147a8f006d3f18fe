"""retina export as people call it, and its file in a process without torch."""

import json
import subprocess
import sys

import numpy as np
import pytest
from exported import small_checkpoint
from support import BASE

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


@pytest.mark.parametrize(
    "kind, file, words",
    [
        ("onnx", "model.onnx", []),
        ("openvino", "model.xml", []),
        ("torchscript", "model.ts", []),
        ("torch-export", "model.pt2", ["--size", "192", "192"]),
        ("onnx", "whole.onnx", ["--nms"]),
        ("openvino", "whole.xml", ["--nms"]),
        ("torchscript", "whole.ts", ["--nms"]),
    ],
)
def test_a_file_is_proven_equal_and_says_so(folder, kind, file, words, capsys):
    assert main(["export", "model.pth", "--to", kind, "--data", "numbers", "--output", file, *words]) == 0
    printed = capsys.readouterr().out
    assert "0 in only one of file and checkpoint" in printed and "AP on 6 validation images" in printed
    metadata = ExportedModel(folder / file).metadata
    assert metadata.proof["exceeds"] == [] and metadata.thresholds[3] == 0.3
    assert main(["predict", file, "numbers/val", "--output", f"out_{file}"]) == 0
    assert len(json.loads((folder / f"out_{file}/predictions.json").read_text())["images"]) == 6


@pytest.mark.parametrize("kind, file", [("onnx", "a.onnx"), ("openvino", "a.xml"), ("torchscript", "a.ts")])
def test_what_a_plan_trains_is_exported_into_a_new_folder(folder, kind, file, capsys):
    keys = {
        "MODEL.RETINANET.HEAD_NAME": "distribution",
        "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": "distribution",
        "MODEL.RETINANET.CLS_LOSS": "quality_focal",
        "MODEL.RETINANET.SOFT_NMS": "gaussian",
    }
    (folder / "planned").mkdir(exist_ok=True)
    small_checkpoint(folder / "planned", **keys)
    assert (
        main(["export", "planned/model.pth", "--to", kind, "--data", "numbers", "--output", f"new/{kind}/{file}"]) == 0
    )
    assert "0 in only one of file and checkpoint" in capsys.readouterr().out


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


def test_a_whole_script_runs_in_a_fresh_process(folder):
    main(["export", "model.pth", "--to", "torchscript", "--nms", "--data", "numbers", "--output", "fresh.ts"])
    program = "import sys; from retina_plugin.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", program, "predict", "fresh.ts", "numbers/val", "--output", "out_fresh"]
    result = subprocess.run(words, capture_output=True, text=True, cwd=folder)
    assert result.returncode == 0, result.stderr


def test_a_file_of_one_size_refuses_others(folder, capsys):
    words = ["--to", "torch-export", "--size", "192", "192", "--data", "numbers", "--output", "fixed.pt2"]
    assert main(["export", "model.pth", *words]) == 0
    assert "takes images that become 64 x 64 pixels only" in capsys.readouterr().out
    model = ExportedModel(folder / "fixed.pt2")
    with pytest.raises(ValueError, match="64 x 64 pixels, not 64 x 128"):
        model(np.zeros((50, 100, 3), np.uint8))


@pytest.mark.parametrize(
    "words, message",
    [
        (["--to", "torch-export", "--size", "0", "5"], "--size must be at least 1 x 1"),
        (["--to", "onnx", "--size", "64", "64"], "--size goes with torch-export, not with onnx"),
        (["--to", "onnx", "--nms", "--precision", "fp16"], "needs the precision fp32"),
        (["--to", "detectron2", "--nms"], "--nms goes with"),
        (["--to", "safetensors", "--triton", "x"], "--triton goes with"),
        (["--to", "detectron2"], "Detectron2's RetinaNet has a ResNet"),
        (["--to", "torchscript", "--precision", "int8"], "has the precisions fp32"),
    ],
)
def test_options_that_do_not_fit_are_refused(words, message, capsys):
    assert main(["export", "model.pth", "--data", "numbers", *words]) == 2
    assert message in capsys.readouterr().err


def test_detectron2_runs_its_files_without_the_plugin(folder, tmp_path, capsys):
    keys = {"MODEL.FPN.NORM": "GN", "MODEL.FPN.OUT_CHANNELS": 64, "MODEL.ANCHOR_GENERATOR.SCALE": 2.0}
    checkpoint = small_checkpoint(tmp_path, BASE, **keys)
    file = tmp_path / "theirs.pth"
    assert main(["export", str(checkpoint), "--to", "detectron2", "--data", "numbers", "--output", str(file)]) == 0
    assert "0 in one only" in capsys.readouterr().out
    program = f"""
import sys, cv2
from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor
cfg = get_cfg()
cfg.merge_from_file({str(file.with_suffix(".yaml"))!r})
cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = {str(file)!r}, "cpu"
found = DefaultPredictor(cfg)(cv2.imread("numbers/val/000000.png"))["instances"]
assert "retina_plugin" not in sys.modules and len(found)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=folder)
    assert result.returncode == 0, result.stderr[-2000:]


def test_a_triton_repository_has_the_file_its_config_and_the_classes(folder, capsys):
    words = ["--data", "numbers", "--output", "served.onnx", "--triton", "repository"]
    assert main(["export", "model.pth", *words]) == 0
    root = folder / "repository/served"
    assert (root / "1/model.onnx").read_bytes() == (folder / "served.onnx").read_bytes()
    assert (root / "classes.txt").read_text().split() == [str(i) for i in range(10)]
    assert 'backend: "onnxruntime"' in (root / "config.pbtxt").read_text()
