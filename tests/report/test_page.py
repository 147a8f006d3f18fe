"""Self-contained pages."""

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
from support import CHROMIUM, screenshot

from retina_plugin.report.page import Page


def make_page():
    page = Page("Cats & <dogs>", "a subtitle")
    page.heading("Numbers")
    page.text("5 < 6")
    page.table(["name", "value"], [("a <b>", 1), ("c", 2.5)])
    page.code("KEY: value")
    page.picture(np.full((40, 60, 3), (0, 0, 255), dtype=np.uint8), "red")
    figure, axes = plt.subplots(figsize=(2, 1))
    axes.plot([1, 2])
    page.plot(figure, "a line")
    return page


def test_text_is_escaped_and_images_are_embedded(tmp_path):
    make_page().write(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "<h1>Cats &amp; &lt;dogs&gt;</h1>" in text and "<td>a &lt;b&gt;</td><td>1</td>" in text
    assert text.count('src="data:image/') == 2 and "http" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_legend_has_coloured_squares_and_escaped_names(tmp_path):
    page = Page("a \udcff b")  # a file name that is not valid UTF-8
    page.legend([("<b>", np.array([1, 2, 3], np.uint8)), ("c", (0, 0, 255))])
    page.write(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "rgb(3, 2, 1)" in text and "&lt;b&gt;</span>" in text and "rgb(255, 0, 0)" in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, such as Debian's package")
def test_browser_renders_the_page(tmp_path):
    make_page().write(tmp_path / "page.html")
    screenshot(tmp_path / "page.html", tmp_path / "page.png")
    image = cv2.imread(str(tmp_path / "page.png")).astype(int)
    red = (abs(image - (0, 0, 255)) < 12).all(-1)
    assert red.sum() == pytest.approx(40 * 60, rel=0.1), "the picture"
    dark = (image.sum(-1) < 200).sum()
    assert dark > 300, "the text"
