"""The picture of a table."""

import cv2
from conftest import ROOT

from retina_plugin.ablation import load_sweep
from retina_plugin.ablation.plot import draw
from retina_plugin.ablation.table import SweepTable, TableRow


def test_rows_with_and_without_results_and_the_papers_beside_them(tmp_path):
    sweep = load_sweep(ROOT / "configs/ablations/table_1b.yaml")
    some = TableRow(("0",), {"AP": [30.0, 32.0]}, 1000, 1.0, 1.0, {}, [])
    failed = TableRow(("0.1",), {}, None, None, None, {1: "no memory"}, [])
    others = [TableRow(labels, {"AP": [33.0]}, 1000, 1.0, 1.0, {}, [2]) for labels in sweep.rows[2:]]
    draw(SweepTable(sweep, [some, failed, *others], []), tmp_path / "table.png")
    image = cv2.imread(str(tmp_path / "table.png"))
    orange = (abs(image.astype(int) - (14, 127, 255)) < 30).all(-1)
    assert orange.sum() > 50, "the paper's figures"
