"""The page of a comparison: differences with their intervals, and images side by side."""

import numpy as np
from planted import planted

from retina_plugin.analysis.comparison import compare
from retina_plugin.report.comparison_page import write_comparison


def test_differences_intervals_and_pairs_of_images(tmp_path):
    worse, better = planted({"Miss": 6, "Bkg": 3}), planted({"Miss": 6, "Bkg": 3})
    better.rows = better.rows[better.rows[:, 1] != 150]
    found = compare(worse, better, samples=100)
    read = {"count": 0}

    def grey(file):
        read["count"] += 1
        if file == "39.png":
            raise ValueError("it is gone")
        return np.full((200, 200, 3), 128, np.uint8)

    page = write_comparison(found, tmp_path / "x.html", grey, ("<a>", "b")).read_text()
    assert "&lt;a&gt;" in page and "Fewer mistakes in 3 images, more in 0, as many in 36" in page
    assert page.count("<img") == 2 and "39.png is not shown: it is gone" in page and read["count"] == 3
    assert "95 % interval" in page and "background taken for an object" in page
