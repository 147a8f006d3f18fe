"""An exported file detects what the checkpoint detects: from files and arrays, in batches, with every threshold."""

import numpy as np
import pytest
import torch
from exported import exact_predictor, photos, small_checkpoint
from support import BASE, ROOT

from detectron2.modeling.box_regression import Box2BoxTransform

from retina_plugin.export.proof import Differences
from retina_plugin.export.runtime import ExportedModel, decoded
from retina_plugin.export.writers import describe, write_onnx, write_openvino

pytestmark = pytest.mark.slow


pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runtime")
    predictor = exact_predictor(small_checkpoint(folder))
    metadata = describe(predictor, precision="fp32", thresholds=[0.45] * 10)
    write_onnx(predictor, folder / "model.onnx", metadata)
    write_openvino(predictor, folder / "model.xml", metadata)
    photos(folder / "photos")
    return folder


@pytest.fixture(params=["model.onnx", "model.xml"])
def file(request, folder):
    return folder / request.param


def same(theirs, ours, most=100):
    found = Differences()
    found.add(theirs, ours, floor=0.05, most=most)
    assert found.lacking == 0 and found.box < 0.05 and found.score < 1e-4, found
    return found.compared


def test_images_of_any_size_alone_and_in_a_batch(folder, file):
    predictor, exported = exact_predictor(folder / "model.pth"), ExportedModel(file)
    files = [str(folder / f"photos/{i}.png") for i in range(3)]
    theirs, ours = ([x.map_file(name) for name in files] for x in (predictor, exported))
    for a, b in zip(theirs, ours, strict=True):
        assert np.array_equal(a["image"].numpy(), b["image"])
    compared = sum(same(a, b) for a, b in zip(predictor.run(theirs), exported.run(ours), strict=True))
    compared += sum(same(predictor.run([a])[0], exported.run([b])[0]) for a, b in zip(theirs, ours, strict=True))
    assert compared > 100


def test_arrays_and_paths(folder, file):
    exported = ExportedModel(file)
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    predictor = exact_predictor(folder / "model.pth")
    same(predictor.run([predictor.map_array(image, "")])[0], exported(image))
    assert len(exported(folder / "photos/0.png").scores)


def test_thresholds_of_the_file_and_a_score(folder, file):
    everything, best, high = (ExportedModel(file, score=s)(folder / "photos/0.png") for s in (None, "best", 0.5))
    assert len(everything.scores) > len(best.scores) > len(high.scores) > 0
    assert best.scores.min() >= 0.45 and high.scores.min() > 0.5


def test_torchvisions_anchors_and_offsets(tmp_path):
    config = ROOT / "configs/coco/torchvision_R_50_FPN.yaml"
    for keys in ({"MODEL.ANCHOR_GENERATOR.OFFSET": 0.5}, {"MODEL.ANCHOR_GENERATOR.NAME": "TorchvisionAnchors"}):
        base = BASE if "OFFSET" in next(iter(keys)) else config
        more = {"DATASETS.TRAIN": ("digits_train",), "DATASETS.TEST": ("digits_val",), "MODEL.WEIGHTS": ""}
        checkpoint = small_checkpoint(
            tmp_path, config=base, **keys, **more, **{"MODEL.RETINANET.CLIP_BEFORE_NMS": False}
        )
        predictor = exact_predictor(checkpoint)
        write_onnx(predictor, tmp_path / "x.onnx", describe(predictor, precision="fp32", thresholds=None))
        image = np.random.default_rng(0).integers(0, 256, (50, 90, 3), dtype=np.uint8)
        same(predictor.run([predictor.map_array(image, "")])[0], ExportedModel(tmp_path / "x.onnx")(image))


def test_boxes_are_decoded_as_by_detectron2():
    rng = np.random.default_rng(0)
    anchors = rng.uniform(0, 50, (40, 4)).astype(np.float32)
    anchors[:, 2:] += anchors[:, :2]
    deltas = rng.normal(0, 3, (40, 4)).astype(np.float32)
    transform = Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0))
    theirs = transform.apply_deltas(torch.from_numpy(deltas), torch.from_numpy(anchors)).numpy()
    assert decoded(deltas, anchors, [10, 10, 5, 5], transform.scale_clamp) == pytest.approx(theirs, rel=1e-5, abs=1e-3)


@pytest.mark.parametrize("kind", ["linear", "gaussian"])
@pytest.mark.parametrize("agnostic", [False, True])
def test_soft_suppression_is_that_of_the_checkpoint(tmp_path, kind, agnostic):
    keys = {"MODEL.RETINANET.SOFT_NMS": kind, "MODEL.RETINANET.CLASS_AGNOSTIC_NMS": agnostic}
    predictor = exact_predictor(small_checkpoint(tmp_path, **keys))
    write_onnx(predictor, tmp_path / "x.onnx", describe(predictor, precision="fp32", thresholds=None))
    exported = ExportedModel(tmp_path / "x.onnx")
    compared = 0
    for file in photos(tmp_path / "photos"):
        theirs, ours = predictor.run([predictor.map_file(file)])[0], exported.run([exported.map_file(file)])[0]
        compared += same(theirs, ours)
    assert compared > 50


def test_damaged_and_foreign_files_are_refused(tmp_path, folder):
    with pytest.raises(FileNotFoundError):
        ExportedModel(tmp_path / "gone.onnx")
    for name in ("x.onnx", "x.xml"):
        (tmp_path / name).write_bytes((folder / f"model{name[1:]}").read_bytes()[:500])
        with pytest.raises(ValueError, match="damaged"):
            ExportedModel(tmp_path / name)
