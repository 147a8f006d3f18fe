"""Parameters and operations, compared with counts by hand and with fvcore."""

import pytest
import torch
from fvcore.nn import FlopCountAnalysis
from support import ROOT, tiny_cfg

from detectron2.modeling import build_model

from retina_plugin import load_config
from retina_plugin.modeling.describe import describe


def table(text):
    """Return the rows of all tables with more than three columns, by their first cell."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows if len(row) > 3}


DETECTORS = [
    [],
    ["MODEL.BOTTOM_UP.NAME", "build_retina_timm"],
    ["MODEL.FPN.NAME", "bifpn"],
    ["MODEL.RETINANET.HEAD_NAME", "shared_tower"],
]


@pytest.mark.parametrize("opts", DETECTORS)
def test_the_parts_add_up_to_the_whole(opts):
    model = build_model(tiny_cfg(*opts))
    rows = table(describe(model, size=(64, 96)))
    for column in range(3):
        total = sum(float(rows[part][column]) for part in ("backbone", "neck", "head"))
        assert total == pytest.approx(float(rows["whole"][column]), abs=0.03)
    assert float(rows["whole"][0]) == pytest.approx(sum(p.numel() for p in model.parameters()) / 1e6, abs=0.005)


def count(module, inputs):
    return FlopCountAnalysis(module, inputs).unsupported_ops_warnings(False).uncalled_modules_warnings(False)


def test_multiply_adds_equal_fvcores():
    model = build_model(tiny_cfg("MODEL.FPN.OUT_CHANNELS", 64, "MODEL.RETINANET.NUM_CONVS", 4)).eval()
    sides = [64 // 2 ** int(name[1]) or 1 for name in model.head_in_features]
    head = count(model.head, ([torch.zeros(1, 64, side, side) for side in sides],)).total()
    body = count(model.backbone.bottom_up, torch.zeros(1, 3, 64, 64))
    rows = table(describe(model, size=(64, 64)))
    assert float(rows["head"][2]) == pytest.approx(head / 1e9, abs=0.006)
    assert float(rows["backbone"][2]) == pytest.approx(body.by_operator()["conv"] / 1e9, abs=0.006)


def test_the_table_of_levels_has_sizes_and_numbers_of_anchors():
    text = describe(build_model(tiny_cfg()), size=(100, 128))
    rows = table(text)  # padded to 128 x 128
    assert rows["p3"] == ["8", "16 x 16", "9", "32, 40, 51", "2,304"]
    assert rows["p7"] == ["128", "1 x 1", "9", "512, 645, 813", "9"]
    assert rows["all"][-1] == f"{9 * (256 + 64 + 16 + 4 + 1):,}"


def test_a_detector_of_detectron2_is_described_by_its_own_parts(small_digits):
    cfg = load_config(ROOT / "configs/digits/faster_rcnn.yaml", ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    rows = table(describe(build_model(cfg), size=(64, 64)))
    assert {"backbone", "neck", "proposals", "regions", "whole"} == set(rows) - {"part"}
