"""The page of a run, during and after it."""

import json

import cv2
import pytest
import yaml
from support import CHROMIUM, ROOT, SMALL, screenshot

from detectron2.utils.env import seed_all_rng

from retina_plugin import load_config
from retina_plugin.config import dump_config
from retina_plugin.engine import RetinaTrainer
from retina_plugin.plan import plan
from retina_plugin.report.page import Page
from retina_plugin.report.run_page import PLANNED, _best_and_last, _curves, differences, write_run_report


@pytest.fixture()
def run_folder(small_digits, tmp_path):
    options = {
        "SOLVER.MAX_ITER": 6,
        "SOLVER.WARMUP_ITERS": 2,
        "TEST.EVAL_PERIOD": 3,
        "TEST.VALIDATION_LOSS": True,
        "OUTPUT_DIR": str(tmp_path),
        "MODEL.RETINANET.SCORE_THRESH_TEST": 0.001,
    }
    pairs = [word for pair in options.items() for word in pair]
    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", [*SMALL, *pairs])
    seed_all_rng(1)
    (tmp_path / "config.yaml").write_text(dump_config(cfg))
    trainer = RetinaTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return tmp_path


@pytest.mark.slow
def test_training_writes_a_page_with_every_part(run_folder):
    text = (run_folder / "report.html").read_text()
    for part in (
        "iteration 6 of 6",
        "<h2>Overview</h2>",
        "<h2>Training curves</h2>",
        "<h2>Kinds of errors</h2>",
        "<h2>Images with the most mistakes</h2>",
        "<h2>Speed and memory</h2>",
        "MODEL.BOTTOM_UP.NAME",
    ):
        assert part in text, part
    lines = [json.loads(line) for line in (run_folder / "metrics.json").read_text().splitlines()]
    assert sum("validation/total_loss" in line for line in lines) >= 1 and any("bbox/AP" in line for line in lines)


@pytest.mark.slow
def test_page_is_written_from_a_folder_with_missing_and_cut_off_files(run_folder):
    (run_folder / "coco_instances_results.json").unlink()
    (run_folder / "results.json").unlink()
    with open(run_folder / "metrics.json", "a") as stream:
        stream.write('5\n{"iteration": 99, "total_lo')  # killed while writing
    text = write_run_report(run_folder).read_text()
    assert "Training curves" in text and "<h2>Overview</h2>" not in text


def test_a_plan_is_shown_with_its_reasons(tmp_path, small_digits):
    assert PLANNED == plan.FILE
    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", [*SMALL, "OUTPUT_DIR", str(tmp_path)])
    (tmp_path / "config.yaml").write_text(dump_config(cfg))
    choice = {"what": "input size", "settings": {"INPUT.MIN_SIZE_TEST": 320}, "why": "5 % are < 20 px", "cost": "time"}
    (tmp_path / PLANNED).write_text(json.dumps({"choices": [choice]}))
    text = write_run_report(tmp_path).read_text()
    assert "<h2>Plan</h2>" in text and "INPUT.MIN_SIZE_TEST 320" in text and "5 % are &lt; 20 px" in text


def test_best_and_last_weights_are_told_apart():
    lines = [{"iteration": i, "bbox/AP": ap} for i, ap in ((9, 10.0), (19, 30.0), (29, 20.0))]
    (text,) = _best_and_last(lines)
    assert "iteration 30" in text and "model_best.pth is from iteration 20, with AP 30.0" in text
    assert _best_and_last(lines[:2]) == [] and _best_and_last([]) == []


class Figures(Page):
    """A page that keeps its figures instead of embedding them."""

    def __init__(self):
        super().__init__("")
        self.figures = []

    def plot(self, figure, caption=""):
        figure.canvas.draw()
        self.figures.append(figure)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(("first", "values"), [
    (19, [{"total_loss": 0.5, "lr": 0.1}]),
    (0, [{"total_loss": 1 / i, "loss_cls": 0.0, "loss_box_reg": NAN, "lr": 0.0} for i in range(1, 41)]),
    (0, [{"total_loss": 0.0, "lr": 0.1, "bbox/AP": NAN}] * 3),
    (1, [{"total_loss": INF}, {"total_loss": 2.0, "$a$/bbox/AP": 3.0, "_b/bbox/AP": 4.0}]),
], ids=["one point", "zero and NaN", "all zero", "infinite, two test sets"])  # fmt: skip
def test_curves_are_visible_on_labelled_axes(first, values):
    page = Figures()
    _curves(page, [{"iteration": i, **x} for i, x in enumerate(values, start=first)])
    for axes in page.figures[0].axes:
        assert axes.get_title() and axes.get_xlabel() and axes.get_ylabel()
        assert len([text for text in axes.get_yticklabels() if text.get_text()]) >= 2
        visible = [line.get_marker() != "None" or len(line.get_xdata()) > 1 for line in axes.lines]
        assert all(visible), "a single point has a marker"
        box = axes.get_legend()
        assert box is None or not box.get_window_extent().overlaps(axes.get_window_extent())


def test_curves_without_an_evaluation_and_without_iterations():
    page = Figures()
    _curves(page, [{"iteration": 1, "total_loss": 1.0}])
    assert [text.get_text() for text in page.figures[0].axes[1].texts] == ["no evaluation yet"]
    page = Figures()
    _curves(page, [])
    assert page.figures == []


def test_differences_from_the_method():
    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", ["MODEL.DEVICE", "cpu"])
    keys = {key for key, _, _ in differences(yaml.safe_load(dump_config(cfg)))}
    assert {"MODEL.BOTTOM_UP.NAME", "SOLVER.OPTIMIZER", "MODEL.RETINANET.LEVELS", "DATASETS.TRAIN"} <= keys
    assert "MODEL.RETINANET.FOCAL_LOSS_GAMMA" not in keys and "MODEL.META_ARCHITECTURE" not in keys


def test_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no run"):
        write_run_report(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, such as Debian's package")
def test_browser_renders_the_page(run_folder, tmp_path):
    screenshot(run_folder / "report.html", tmp_path / "report.png", height=2400)
    image = cv2.imread(str(tmp_path / "report.png"))
    assert all(image[top : top + 300].std() > 5 for top in range(0, 1500, 300)), "no part of the page is empty"
