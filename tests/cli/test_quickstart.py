"""The quickstart, small."""

import pytest
from support import SMALL

from retina_plugin.cli import main as cli
from retina_plugin.cli.quickstart import PICTURE


@pytest.mark.slow
def test_it_leaves_everything_it_promises_and_says_where(small_digits, tmp_path, capsys):
    opts = [*SMALL, "SOLVER.MAX_ITER", 2, "SOLVER.WARMUP_ITERS", 1, "MODEL.RETINANET.SCORE_THRESH_TEST", 0.001]
    assert cli.main(["quickstart", *map(str, opts), "OUTPUT_DIR", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for name in (PICTURE, "coco_table.md", "model_final.pth", "config.yaml", "metrics.json"):
        assert (tmp_path / name).stat().st_size > 0 and str(tmp_path / name) in said
    assert f"retina evaluate {tmp_path / 'model_final.pth'}" in said
