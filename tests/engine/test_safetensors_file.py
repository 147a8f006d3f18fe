"""Checkpoints as safetensors: weights and description survive, damage is reported."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from support import tiny_cfg

from detectron2.modeling import build_model

from retina_plugin import load_predictor
from retina_plugin.config.checkpoint_info import config_in_checkpoint
from retina_plugin.engine.checkpoint import RetinaCheckpointer, read_checkpoint, read_info
from retina_plugin.engine.safetensors_file import write_safetensors

pytestmark = pytest.mark.slow


@pytest.fixture()
def files(tmp_path):
    cfg = tiny_cfg()
    RetinaCheckpointer(build_model(cfg), str(tmp_path), cfg=cfg).save("model")
    write_safetensors(read_checkpoint(str(tmp_path / "model.pth")), tmp_path / "model.safetensors")
    return tmp_path / "model.pth", tmp_path / "model.safetensors"


def test_weights_config_and_classes_are_those_of_the_checkpoint(files):
    theirs, ours = (read_checkpoint(str(file)) for file in files)
    assert theirs["model"].keys() == ours["model"].keys()
    assert all(torch.equal(theirs["model"][name], ours["model"][name]) for name in ours["model"])
    assert read_info(str(files[1])) == read_info(str(files[0]))
    assert config_in_checkpoint(str(files[1])) == config_in_checkpoint(str(files[0]))


def test_it_predicts_like_the_checkpoint(files):
    image = torch.randint(0, 255, (60, 80, 3), dtype=torch.uint8).numpy()
    theirs, ours = (load_predictor(file, score_thresh=0.0, device="cpu")(image)["instances"] for file in files)
    assert len(ours) and torch.equal(theirs.scores, ours.scores)


def test_any_program_reads_the_metadata(files):
    with safe_open(files[1], framework="np") as stream:
        assert '"class_names"' in stream.metadata()["retina_plugin"]
    assert not files[1].with_name("model.safetensors.tmp").exists()


def test_foreign_and_damaged_files(files, tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match="not written by retina_plugin"):
        read_info(str(tmp_path / "foreign.safetensors"))
    assert config_in_checkpoint(str(tmp_path / "foreign.safetensors")) is None
    for cut in (0, 5, 1000):
        (tmp_path / "cut.safetensors").write_bytes(files[1].read_bytes()[:cut])
        with pytest.raises(ValueError, match="damaged"):
            read_checkpoint(str(tmp_path / "cut.safetensors"))
        assert config_in_checkpoint(str(tmp_path / "cut.safetensors")) is None
