"""The command, without and with a checkpoint."""

import torch
from support import ROOT, SMALL

from detectron2.modeling import build_model

from retina_plugin import load_config
from retina_plugin.cli.main import main
from retina_plugin.engine.checkpoint import RetinaCheckpointer


def test_without_a_checkpoint_it_prints_the_example_and_draws_figure_1(tmp_path, capsys):
    assert main(["explain-focal", "--output", str(tmp_path)]) == 0
    assert "| cross entropy | 0.09691001 |" in capsys.readouterr().out
    assert [file.name for file in tmp_path.iterdir()] == ["figure_1.png"]


def test_with_a_checkpoint_it_draws_figure_4(small_digits, tmp_path, capsys):
    torch.manual_seed(0)
    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", [*SMALL])
    RetinaCheckpointer(build_model(cfg), str(tmp_path), cfg=cfg).save("model")
    words = ["--output", str(tmp_path), "--checkpoint", str(tmp_path / "model.pth"), "--images", "2"]
    assert main(["explain-focal", *words]) == 0
    printed = capsys.readouterr().out
    assert "2 images of digits_val" in printed and "| 2 |" in printed
    assert (tmp_path / "figure_4.png").is_file()
