"""The page of an analysis: sentences, figures, pictures, with few and many classes and with nothing found."""

import math

import numpy as np
import pytest
from planted import planted, random_detections

from retina_plugin.analysis.diagnosis import diagnose
from retina_plugin.report.analysis_page import (
    COLOURS,
    MISSED,
    RIGHT,
    WRONG,
    _confusion,
    add_classes,
    draw_image,
    overview,
    write_analysis,
)
from retina_plugin.report.page import Page


def grey(file):
    return np.full((200, 200, 3), 128, np.uint8)


def test_the_overview_names_ap_threshold_and_the_costliest_error():
    found = diagnose(planted({"Miss": 10}), samples=100)
    first, second, third, last = overview(found)
    assert first.startswith("AP 74.6 (") and " to " in first
    assert "100 % of them are right and 75 % of the objects are found" in second
    assert third.startswith("What costs most: missed object (10 ") and last.startswith(
        "30 of 40 images have no mistake"
    )


def test_nothing_detected():
    found = diagnose(planted({"Miss": 3}, right=0), samples=0)
    assert "No detection is right." in overview(found)


@pytest.mark.parametrize("kinds", [{}, {"Miss": 3}, {"Cls": 2, "Bkg": 2}])
@pytest.mark.parametrize("right", [0, 4])
def test_a_page_of_any_result_is_written(tmp_path, kinds, right):
    if not kinds and not right:
        right = 1
    page = write_analysis(diagnose(planted(kinds, right=right), samples=0), tmp_path / "x.html", grey).read_text()
    assert "nan" not in page.split("<body>")[1].replace("data:image", "").lower()[:3000] and "Overview" in page


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    def broken(file):
        raise ValueError("it is gone")

    page = write_analysis(diagnose(planted({"Miss": 2}), samples=0), tmp_path / "x.html", broken).read_text()
    assert "not shown: it is gone" in page


def test_boxes_have_the_colour_of_their_verdict():
    found = diagnose(planted({"Bkg": 1, "Miss": 1}, right=1), samples=0)
    for image in found.images:
        picture = draw_image(found, image, grey("")).astype(int)
        shown = [
            bool((abs(picture - colour).sum(axis=2) < 40).any())
            for colour in COLOURS[[RIGHT, WRONG, MISSED]].astype(int)
        ]
        assert shown == [image.right > 0, image.wrong > 0, image.missed > 0]


@pytest.mark.parametrize("count, shown", [(3, 4), (80, 31)])
def test_of_many_classes_the_confused_ones_are_shown(count, shown):
    found = diagnose(random_detections(), samples=0)
    found.detections.truth.class_names = [f"_class ${k}$" for k in range(count)]
    confusion = np.zeros((count + 1, count + 1), dtype=int)
    confusion[1, 2] = 5
    found.confusion = confusion
    figure = _confusion(found)
    figure.canvas.draw()
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert len(labels) == shown and labels[-1] == "background" and r"_class \$2\$" in labels


def test_a_class_without_objects_has_no_figures():
    detections = planted({}, right=3)
    detections.truth.class_names = ["cat", "dog", "emu", "gnu"]
    detections.coco["categories"].append({"id": 4, "name": "gnu"})
    found = diagnose(detections, samples=0)
    gnu = next(x for x in found.classes if x.name == "gnu")
    assert math.isnan(gnu.ap) and math.isnan(gnu.threshold.score)
    page = Page("")
    add_classes(page, found)
    assert "<td>gnu</td><td>0</td><td>0</td><td>n/a</td>" in "".join(page._parts)
