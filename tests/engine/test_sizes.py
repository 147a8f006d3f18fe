"""Evaluation at several sizes in one command."""

import json

import pytest
from conftest import ROOT, SMALL

from retina_plugin import load_config
from retina_plugin.engine import argument_parser, run
from retina_plugin.engine.sizes import at_size

DIGITS = ROOT / "configs/digits/quickstart.yaml"


@pytest.mark.parametrize(
    "test, longest, size, want", [(192, 384, 96, (96, 192)), (800, 1333, 400, (400, 666)), (0, 1333, 300, (300, 400))]
)
def test_the_ratio_of_the_sides_is_kept(test, longest, size, want, small_digits):
    cfg = at_size(
        load_config(DIGITS, ["MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", test, "INPUT.MAX_SIZE_TEST", longest]), size
    )
    assert (
        (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) == want
        and cfg.OUTPUT_DIR.endswith(f"size_{size}")
        and cfg.is_frozen()
    )


def test_every_size_is_that_of_an_evaluation_of_its_own(small_digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [
        "--config-file",
        str(DIGITS),
        *map(str, [*SMALL, "MODEL.BOTTOM_UP.NAME", "build_retina_resnet", "INPUT.MIN_SIZE_TEST", 64]),
    ]
    more = [
        "MODEL.WEIGHTS",
        "",
        "INPUT.MIN_SIZE_TRAIN",
        "(64,)",
        "SOLVER.MAX_ITER",
        "30",
        "SOLVER.WARMUP_ITERS",
        "2",
        "TEST.REPORT",
        "False",
        "MODEL.RETINANET.SCORE_THRESH_TEST",
        "0.001",
    ]
    folder = run(argument_parser().parse_args([*words, *more]))
    weights = str((folder / "model_final.pth").resolve())

    def evaluated(*opts):
        args = argument_parser().parse_args(
            [*words, "--eval-only", "MODEL.WEIGHTS", weights, "MODEL.RETINANET.SCORE_THRESH_TEST", "0.001", *opts]
        )
        return json.loads((run(args) / "results.json").read_text())

    trained = json.loads(
        (
            run(
                argument_parser().parse_args(
                    [*words, *more, "OUTPUT_DIR", "sized", "TEST.SIZES", "(96,)", "TEST.DETECTIONS_PER_IMAGE", "20"]
                )
            )
            / "results.json"
        ).read_text()
    )
    assert set(trained) == {"bbox", "96 px"}
    several = evaluated("TEST.SIZES", "(48, 96)")
    assert set(several) == {"bbox", "48 px", "96 px"}
    alone = evaluated("INPUT.MIN_SIZE_TEST", "96", "INPUT.MAX_SIZE_TEST", str(round(96 * 1333 / 64)))
    assert several["96 px"]["bbox"] == alone["bbox"]
