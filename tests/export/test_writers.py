"""What is written for each precision, what an export cannot do, and the calibration of int8."""

import numpy as np
import pytest
from exported import EXACT, exact_predictor, photos, small_checkpoint

from retina_plugin import load_predictor
from retina_plugin.export.runtime import ExportedModel
from retina_plugin.export.to_detectron2 import detectron2_config
from retina_plugin.export.writers import (
    SUFFIX,
    WRITERS,
    calibration_batches,
    describe,
    with_metadata,
    write_onnx,
    write_openvino,
)

pytestmark = pytest.mark.slow


pytest.importorskip("onnx")
pytest.importorskip("openvino")


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_smaller_onnx_files_run_and_are_smaller(tmp_path, precision):
    predictor = exact_predictor(small_checkpoint(tmp_path))
    files = photos(tmp_path / "photos")
    metadata = describe(predictor, precision=precision, thresholds=None)
    write_onnx(predictor, tmp_path / "exact.onnx", metadata)
    write_onnx(predictor, tmp_path / "small.onnx", metadata, images=files, precision=precision)
    assert (tmp_path / "small.onnx").stat().st_size < 0.7 * (tmp_path / "exact.onnx").stat().st_size
    found = ExportedModel(tmp_path / "small.onnx")(files[0])
    assert len(found.scores) and np.isfinite(found.boxes).all()


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8"])
def test_openvino_files_of_every_precision_run(tmp_path, precision):
    if precision == "int8":
        pytest.importorskip("nncf")
    predictor = exact_predictor(small_checkpoint(tmp_path))
    files = photos(tmp_path / "photos")
    metadata = describe(predictor, precision=precision, thresholds=None)
    write_openvino(predictor, tmp_path / "x.xml", metadata, images=files, precision=precision)
    exported = ExportedModel(tmp_path / "x.xml")
    assert exported.metadata.precision == precision and len(exported(files[0]).scores)


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".ts", ".pt2"])
def test_the_proof_is_added_to_a_file(tmp_path, suffix):
    predictor = exact_predictor(small_checkpoint(tmp_path))
    metadata = describe(predictor, precision="fp32", thresholds=None)
    if suffix == ".pt2":
        metadata.input_size = [64, 96]  # of an image of 60 x 80
    file = tmp_path / f"x{suffix}"
    kind = next(kind for kind, ending in SUFFIX.items() if ending == suffix)
    WRITERS[kind](predictor, file, metadata)
    before = ExportedModel(file)(photos(tmp_path / "photos")[0])
    metadata.proof = {"lines": ["AP 50"], "exceeds": []}
    with_metadata(file, metadata)
    exported = ExportedModel(file)
    assert exported.metadata == metadata
    assert np.array_equal(exported(photos(tmp_path / "photos")[0]).scores, before.scores)


@pytest.mark.parametrize(
    "key, value",
    [
        ("MODEL.RETINANET.CLIP_BEFORE_NMS", True),
        ("TEST.TILES.SIZE", 64),
        ("TEST.AUG.ENABLED", True),
    ],
)
def test_what_the_runtime_does_not_compute_is_refused(tmp_path, key, value):
    predictor = load_predictor(small_checkpoint(tmp_path), device="cpu", settings=[*EXACT, key, value])
    with pytest.raises(ValueError, match=key.replace(".", r"\.")):
        describe(predictor, precision="fp32", thresholds=None)


def test_soft_suppression_is_refused_inside_a_file(tmp_path):
    settings = [*EXACT, "MODEL.RETINANET.SOFT_NMS", "linear"]
    predictor = load_predictor(small_checkpoint(tmp_path), device="cpu", settings=settings)
    assert describe(predictor, precision="fp32", thresholds=None).soft_nms == "linear"
    with pytest.raises(ValueError, match="suppression inside the file is not soft"):
        describe(predictor, precision="fp32", thresholds=None, nms_inside=True)
    with pytest.raises(ValueError, match="has no soft NMS"):
        detectron2_config(predictor)


def test_calibration_reads_what_can_be_read(tmp_path):
    predictor = exact_predictor(small_checkpoint(tmp_path))
    files = photos(tmp_path / "photos")
    batches = list(calibration_batches(predictor, ["gone.png", *files]))
    d = predictor.model.backbone.size_divisibility
    assert len(batches) == 3 and all(x.shape[2] % d == 0 and x.shape[3] % d == 0 for x in batches)
    with pytest.raises(ValueError, match="give --data"):
        list(calibration_batches(predictor, ["gone.png"]))


def test_first_last_and_depthwise_convolutions_stay_exact_in_int8_onnx(tmp_path):
    import onnx

    predictor = exact_predictor(small_checkpoint(tmp_path))
    metadata = describe(predictor, precision="int8", thresholds=None)
    files = photos(tmp_path / "photos")
    write_onnx(predictor, tmp_path / "x.onnx", metadata, images=files, precision="int8")
    graph = onnx.load(str(tmp_path / "x.onnx")).graph
    quantized = {output for x in graph.node if x.op_type == "DequantizeLinear" for output in x.output}
    exact = [x.name for x in graph.node if x.op_type == "Conv" and x.input[0] not in quantized]
    kinds = {name.split("/")[-2].split(".")[0] for name in exact}
    assert {"conv_stem", "conv_dw", "cls_score", "bbox_pred"} <= kinds and "conv_pw" not in kinds
