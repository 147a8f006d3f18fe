"""``retina find-lr``: a curve, a picture and a sentence."""

import json

import pytest
from support import ROOT, SMALL

from retina_plugin.cli.main import main


@pytest.mark.slow
def test_it_says_what_it_found_and_trains_nothing(small_digits, tmp_path, capsys):
    keys = [str(word) for word in [*SMALL, "MODEL.BOTTOM_UP.NAME", "build_retina_resnet"]]
    keys += ["MODEL.WEIGHTS", "", "INPUT.MIN_SIZE_TRAIN", "(64,)"]
    words = ["--steps", "12", "--high", "0.1", "--output", str(tmp_path)]
    for key, value in zip(keys[0::2], keys[1::2], strict=True):
        words += ["--set", f"{key}={value}"]
    assert main(["find-lr", str(ROOT / "configs/digits/quickstart.yaml"), *words]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert "SOLVER.BASE_LR is 0.001, for batches of 2" in said and str(tmp_path / "lr.png") in said
    assert len(json.loads((tmp_path / "lr.json").read_text())["rates"]) <= 12 and not list(tmp_path.glob("*.pth"))


def test_bounds_that_are_none_are_one_line(small_digits, tmp_path, capsys):
    words = ["--low", "1", "--high", "0.1", "--output", str(tmp_path), "--set", "MODEL.DEVICE=cpu"]
    assert main(["find-lr", str(ROOT / "configs/digits/quickstart.yaml"), *words]) == 2
    assert "error: learning rates must rise" in capsys.readouterr().err
