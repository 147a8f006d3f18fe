"""The page of a run, during it and after it."""

import json

import cv2
import pytest
from conftest import CHROMIUM, ROOT, SMALL, screenshot

from detectron2.utils.env import seed_all_rng

from retina_plugin import load_config
from retina_plugin.config import dump_config
from retina_plugin.engine import RetinaTrainer
from retina_plugin.report.page import Page
from retina_plugin.report.run_page import _curves, _precision_recall, differences, write_run_report


@pytest.fixture()
def run_folder(small_digits, tmp_path):
    options = [
        *SMALL,
        "SOLVER.MAX_ITER",
        6,
        "SOLVER.WARMUP_ITERS",
        2,
        "TEST.EVAL_PERIOD",
        3,
        "TEST.VALIDATION_LOSS",
        True,
        "OUTPUT_DIR",
        str(tmp_path),
        "MODEL.RETINANET.SCORE_THRESH_TEST",
        0.001,
    ]
    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", options)
    seed_all_rng(1)
    (tmp_path / "config.yaml").write_text(dump_config(cfg))
    trainer = RetinaTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return tmp_path


def test_training_writes_it_and_it_has_every_part(run_folder):
    text = (run_folder / "report.html").read_text()
    for part in (
        "iteration 6 of 6",
        "<h2>Result</h2>",
        "<h2>Training curves</h2>",
        "<h2>Precision and recall",
        "the worst first",
        "<h2>Speed and memory</h2>",
        "MODEL.BOTTOM_UP.NAME",
    ):
        assert part in text, part
    lines = [json.loads(line) for line in (run_folder / "metrics.json").read_text().splitlines()]
    assert sum("validation/total_loss" in line for line in lines) >= 1 and any("bbox/AP" in line for line in lines)


def test_the_same_from_the_folder_alone_and_with_files_missing(run_folder):
    (run_folder / "coco_instances_results.json").unlink()
    (run_folder / "results.json").unlink()
    with open(run_folder / "metrics.json", "a") as stream:
        stream.write('5\n{"iteration": 99, "total_lo')  # killed here
    text = write_run_report(run_folder).read_text()
    assert "Training curves" in text and "<h2>Result</h2>" not in text


class Figures(Page):
    """Keeps figures instead of drawing them."""

    def __init__(self):
        super().__init__("")
        self.figures = []

    def plot(self, figure, caption=""):
        figure.canvas.draw()
        self.figures.append(figure)


@pytest.mark.parametrize(
    "lines",
    [
        [{"iteration": 19, "total_loss": 0.5, "lr": 0.1}],
        [
            {"iteration": i, "total_loss": 1 / (i + 1), "loss_cls": 0.0, "loss_box_reg": float("nan"), "lr": 0.0}
            for i in range(40)
        ],
        [{"iteration": i, "total_loss": 0.0, "lr": 0.1, "bbox/AP": float("nan")} for i in range(3)],
        [
            {"iteration": 1, "total_loss": float("inf")},
            {"iteration": 2, "total_loss": 2.0, "$a$/bbox/AP": 3.0, "_b/bbox/AP": 4.0},
        ],
    ],
)
def test_every_curve_has_axes_with_names_and_numbers_and_is_seen(lines):
    page = Figures()
    _curves(page, lines)
    for axes in page.figures[0].axes:
        assert axes.get_title() and axes.get_xlabel() and axes.get_ylabel()
        assert len([text for text in axes.get_yticklabels() if text.get_text()]) >= 2
        assert all(line.get_marker() != "None" or len(line.get_xdata()) > 1 for line in axes.lines), (
            "a point alone has a marker"
        )
        box = axes.get_legend()
        assert box is None or not box.get_window_extent().overlaps(axes.get_window_extent())


def test_without_an_evaluation_the_page_says_so():
    page = Figures()
    _curves(page, [{"iteration": 1, "total_loss": 1.0}])
    assert [text.get_text() for text in page.figures[0].axes[1].texts] == ["no evaluation yet"]
    page = Figures()
    _curves(page, [])
    assert page.figures == []


@pytest.mark.parametrize(("count", "named"), [(1, 1), (8, 9), (80, 9)])
def test_precision_recall_names_few_classes_the_best_and_the_worst(count, named):
    curves = {f"_class ${k}$": [1 - k / 100] * 101 for k in range(count)} | {"none": [-1] * 101}
    figure = _precision_recall(curves)
    figure.canvas.draw()
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) == named and texts[0] == r"_class \$0\$" and "none" not in texts
    assert count == 1 or texts[-1] == f"mean of {count} classes"
    assert not figure.legends[0].get_window_extent().overlaps(figure.axes[0].get_window_extent())


def test_precision_recall_of_no_class_says_so():
    assert _precision_recall({"a": [-1] * 101}).axes[0].texts[0].get_text() == "no class has a box"


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
