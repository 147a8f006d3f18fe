"""Evaluation at several image sizes in one command."""

import json

import pytest
from option_pairs import pairs
from support import ROOT, SMALL

from retina_plugin import load_config
from retina_plugin.engine import argument_parser, run
from retina_plugin.engine.sizes import at_size

DIGITS = ROOT / "configs/digits/quickstart.yaml"


@pytest.mark.parametrize(
    "test, longest, size, want", [(192, 384, 96, (96, 192)), (800, 1333, 400, (400, 666)), (0, 1333, 300, (300, 400))]
)
def test_the_ratio_of_the_sides_is_kept(test, longest, size, want, small_digits):
    options = {"MODEL.DEVICE": "cpu", "INPUT.MIN_SIZE_TEST": test, "INPUT.MAX_SIZE_TEST": longest}
    cfg = at_size(load_config(DIGITS, pairs(options)), size)
    shorter, longer = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    assert (shorter, longer) == want
    assert cfg.OUTPUT_DIR.endswith(f"size_{size}") and cfg.is_frozen()


def results_of(*words):
    folder = run(argument_parser().parse_args(["--config-file", str(DIGITS), *map(str, words)]))
    return folder, json.loads((folder / "results.json").read_text())


@pytest.mark.slow
def test_each_size_equals_an_evaluation_at_that_size(small_digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = {
        "MODEL.BOTTOM_UP.NAME": "build_retina_resnet",
        "MODEL.RETINANET.SCORE_THRESH_TEST": 0.001,
        "INPUT.MIN_SIZE_TEST": 64,
    }
    short = {
        "MODEL.WEIGHTS": "",
        "INPUT.MIN_SIZE_TRAIN": (64,),
        "SOLVER.MAX_ITER": 30,
        "SOLVER.WARMUP_ITERS": 2,
        "TEST.REPORT": False,
    }
    words = [*SMALL, *pairs(common)]
    folder, _ = results_of(*words, *pairs(short))
    sized = {"OUTPUT_DIR": "sized", "TEST.SIZES": (96,), "TEST.DETECTIONS_PER_IMAGE": 20}
    _, trained = results_of(*words, *pairs({**short, **sized}))
    assert {"bbox", "96 px"} <= set(trained)

    evaluated = [*words, "--eval-only", "MODEL.WEIGHTS", (folder / "model_final.pth").resolve()]
    _, several = results_of(*evaluated, "TEST.SIZES", (48, 96))
    assert {"bbox", "48 px", "96 px"} <= set(several)
    longest = round(96 * 1333 / 64)
    _, alone = results_of(*evaluated, *pairs({"INPUT.MIN_SIZE_TEST": 96, "INPUT.MAX_SIZE_TEST": longest}))
    assert several["96 px"]["bbox"] == alone["bbox"]
