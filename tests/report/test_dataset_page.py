"""The page of a dataset."""

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from support import CHROMIUM, screenshot

from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances

from retina_plugin.analysis.coverage import ground_truth
from retina_plugin.report.dataset_page import _distributions, _heat, augmented_sheet, statistics_page


def records_of(split):
    return DatasetCatalog.get(f"digits_{split}")


def test_page_counts_images_boxes_and_classes(small_digits, tmp_path):
    empty = {**records_of("val")[0], "annotations": [], "image_id": 99}
    records = {"train": records_of("train"), "val": [*records_of("val"), empty]}
    classes = [str(digit) for digit in range(10)]
    statistics_page("digits", classes, records, shortest=192, longest=400).write(tmp_path / "stats.html")
    text = (tmp_path / "stats.html").read_text()
    boxes = [x for record in records["train"] for x in record["annotations"]]
    assert f"<td>train</td><td>8</td><td>{len(boxes)}</td><td>0</td>" in text
    assert "<td>val</td><td>5</td>" in text and "<td>1</td>" in text
    sevens = sum(x["category_id"] == 7 for x in boxes)
    assert f"<td>7</td><td>{sevens}</td>" in text
    # The distributions, a map of positions per split, and examples: 6 of the 8 and all 5 images.
    assert text.count("<img") == 1 + 2 + 6 + 5


def test_splits_without_boxes_or_images(small_digits, tmp_path):
    empty = [{**record, "annotations": []} for record in records_of("val")]
    page = statistics_page("digits", ["0"], {"train": empty, "val": []}, shortest=192, longest=400)
    page.write(tmp_path / "stats.html")
    assert "<td>val</td><td>0</td><td>0</td><td>0</td><td>none</td>" in (tmp_path / "stats.html").read_text()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, such as Debian's package")
def test_browser_renders_the_page(small_digits, tmp_path):
    classes = [str(digit) for digit in range(10)]
    page = statistics_page("digits", classes, {"train": records_of("train")}, shortest=192, longest=400)
    page.write(tmp_path / "stats.html")
    screenshot(tmp_path / "stats.html", tmp_path / "stats.png", height=2400)
    image = cv2.imread(str(tmp_path / "stats.png"))
    bands = [image[top : top + 300] for top in range(0, 1800, 300)]
    assert all(band.std() > 5 for band in bands), "no part of the page is empty"


def test_sheet_draws_ignored_regions_in_a_colour_of_their_own():
    instances = Instances((60, 80))
    instances.gt_boxes, instances.gt_classes = Boxes(torch.tensor([[5.0, 20, 30, 50]])), torch.tensor([0])
    sample = {
        "image": torch.zeros(3, 60, 80, dtype=torch.uint8),
        "instances": instances,
        "ignore_boxes": torch.tensor([[40.0, 20, 70, 50]]),
    }
    out = augmented_sheet([sample, sample, sample], ["cat"], image_format="RGB", columns=2)
    assert out.shape == (2 * 66 + 22, 2 * 86, 3), "two rows and a line of legend"
    colours = [tuple(int(v) for v in out[6 + 48, 6 + x]) for x in (5, 40)]
    assert colours[0] != colours[1] and all(np.ptp(c) > 20 for c in colours)


def truth_of(boxes, size=(100, 100)):
    annotations = [{"bbox": box, "category_id": 0} for box in boxes]
    return ground_truth([{"height": size[0], "width": size[1], "annotations": annotations}], shortest=0, longest=0)


def test_distributions_contain_every_box_of_any_size_and_shape():
    truths = {
        "$a$": truth_of([[0, 0, 0.2, 0.2], [0, 0, 9000, 9000], [0, 0, 5000, 1], [0, 0, 1, 5000], [5, 5, 9, 9]]),
        "_b": truth_of([[0, 0, 4, 512]]),
    }
    figure = _distributions(truths)
    for axes in figure.axes:
        curves = [line for line in axes.lines if len(line.get_xdata()) > 2]
        assert len(curves) == 2
        for line in curves:
            assert sum(line.get_ydata()[1:-1:2]) == pytest.approx(100), axes.get_title()


def test_every_axis_has_a_label_and_numbers():
    truth = truth_of([[5, 5, 30, 40], [1, 1, 9, 9]])
    for figure in (_distributions({"train": truth}), _distributions({"train": truth_of([])}), _heat(truth, "train")):
        figure.canvas.draw()
        for axes in figure.axes:
            named = axes.get_title() and axes.get_xlabel() and axes.get_ylabel()
            assert named or axes is figure.axes[-1], "the title explains the colour bar"
            assert len([text for text in axes.get_yticklabels() if text.get_text()]) >= 2
        plt.close(figure)


def test_names_with_markup_or_mathematics_are_shown_literally(small_digits, tmp_path):
    ordinary = ["$x$", "a|b", "new\nline", "long " * 99, "_x", "\x00", "\udcff"]
    classes = ["<script>", "\U0001f600", "\u4e2d\u6587", *ordinary]
    page = statistics_page("<b>$name$", classes, {"$train$": records_of("train")}, shortest=192, longest=400)
    page.write(tmp_path / "stats.html")
    text = (tmp_path / "stats.html").read_text()
    assert all(name in text for name in ("&lt;script&gt;", "\U0001f600", "\u4e2d\u6587"))
    assert "<script>" not in text and "<b>$" not in text
