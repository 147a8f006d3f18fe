"""The page of a run, during it and after it."""

import json

import cv2
import pytest
from conftest import CHROMIUM, ROOT, SMALL, screenshot
from detectron2.utils.env import seed_all_rng

from retina_plugin import load_config
from retina_plugin.config import dump_config
from retina_plugin.engine import RetinaTrainer
from retina_plugin.report.run import differences, write_run_report


@pytest.fixture()
def run_folder(small_digits, tmp_path):
    options = [*SMALL, "SOLVER.MAX_ITER", 6, "SOLVER.WARMUP_ITERS", 2, "TEST.EVAL_PERIOD", 3, "TEST.VALIDATION_LOSS", True, "OUTPUT_DIR", str(tmp_path), "MODEL.RETINANET.SCORE_THRESH_TEST", 0.001]
    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", options)
    seed_all_rng(1)
    (tmp_path / "config.yaml").write_text(dump_config(cfg))
    trainer = RetinaTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return tmp_path


def test_training_writes_it_and_it_has_every_part(run_folder):
    text = (run_folder / "report.html").read_text()
    for part in ("iteration 6 of 6", "<h2>Result</h2>", "<h2>Training curves</h2>", "<h2>Precision and recall", "the worst first", "<h2>Speed and memory</h2>", "MODEL.BOTTOM_UP.NAME"):
        assert part in text, part
    lines = [json.loads(line) for line in (run_folder / "metrics.json").read_text().splitlines()]
    assert sum("validation/total_loss" in line for line in lines) >= 1 and any("bbox/AP" in line for line in lines)


def test_the_same_from_the_folder_alone_and_with_files_missing(run_folder):
    (run_folder / "coco_instances_results.json").unlink()
    (run_folder / "results.json").unlink()
    with open(run_folder / "metrics.json", "a") as stream:
        stream.write('{"iteration": 99, "total_lo')  # killed here
    text = write_run_report(run_folder).read_text()
    assert "Training curves" in text and "<h2>Result</h2>" not in text


def test_what_differs_is_what_the_config_says():
    import yaml

    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", ["MODEL.DEVICE", "cpu"])
    keys = {key for key, _, _ in differences(yaml.safe_load(dump_config(cfg)))}
    assert {"MODEL.BOTTOM_UP.NAME", "SOLVER.OPTIMIZER", "MODEL.RETINANET.LEVELS", "DATASETS.TRAIN"} <= keys
    assert "MODEL.RETINANET.FOCAL_LOSS_GAMMA" not in keys and "MODEL.META_ARCHITECTURE" not in keys


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        write_run_report(tmp_path)


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, such as Debian's package")
def test_a_browser_shows_it(run_folder, tmp_path):
    screenshot(run_folder / "report.html", tmp_path / "report.png", height=2400)
    image = cv2.imread(str(tmp_path / "report.png"))
    assert all(image[top : top + 300].std() > 5 for top in range(0, 1500, 300)), "no part of the page is empty"
