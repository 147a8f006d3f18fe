"""A custom script: seeded, logged and recorded like the runs of train_net.py."""

import json
import logging
import random
from argparse import Namespace

import numpy as np
import pytest
import torch
from option_pairs import pairs
from support import ROOT, SMALL

from retina_plugin import RetinaTrainer, load_config, set_up
from retina_plugin.engine.console import Problems
from retina_plugin.engine.setup import command_of

DIGITS = ROOT / "configs/digits/quickstart.yaml"


def cfg_for(folder, *opts):
    options = {
        "MODEL.BOTTOM_UP.NAME": "build_retina_resnet",
        "MODEL.WEIGHTS": "",
        "INPUT.MIN_SIZE_TRAIN": (64,),
        "INPUT.MIN_SIZE_TEST": 64,
        "TEST.REPORT": False,
        "SOLVER.MAX_ITER": 4,
        "SOLVER.WARMUP_ITERS": 1,
        "DATASETS.TEST": (),
        "OUTPUT_DIR": str(folder),
    }
    return load_config(DIGITS, [*SMALL, *pairs(options), *opts])


def trained(cfg):
    trainer = RetinaTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    return trainer


def losses(folder):
    return [json.loads(line)["total_loss"] for line in (folder / "metrics.json").read_text().splitlines()]


@pytest.mark.slow
def test_two_runs_with_one_seed_are_equal_in_one_process(small_digits, tmp_path):
    weights = []
    for name in "ab":
        torch.rand(7), random.random(), np.random.rand(3)
        weights.append(trained(cfg_for(tmp_path / name)).detector.state_dict())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    other = trained(cfg_for(tmp_path / "c", "SEED", 2)).detector.state_dict()
    assert any(not torch.equal(weights[0][key], other[key]) for key in other)


@pytest.mark.slow
def test_a_new_run_starts_its_metrics_and_keeps_those_of_the_previous_one(small_digits, tmp_path):
    trained(cfg_for(tmp_path))
    before = (tmp_path / "metrics.json").read_text()
    trained(cfg_for(tmp_path))
    assert (tmp_path / "metrics.json").read_text().count("total_loss") == before.count("total_loss") == 1
    assert (tmp_path / "metrics_earlier.json").read_text() == before
    trained(cfg_for(tmp_path))
    assert (tmp_path / "metrics_earlier_2.json").exists()


@pytest.mark.slow
def test_a_resumed_run_continues_its_metrics(small_digits, tmp_path):
    trained(cfg_for(tmp_path))
    trainer = RetinaTrainer(cfg_for(tmp_path, "SOLVER.MAX_ITER", 8))
    trainer.resume_or_load(resume=True)
    trainer.train()
    assert [json.loads(line)["iteration"] for line in (tmp_path / "metrics.json").read_text().splitlines()] == [3, 7]
    assert not (tmp_path / "metrics_earlier.json").exists()


def test_set_up_seeds_logs_and_writes_the_record(small_digits, tmp_path, capsys):
    cfg = cfg_for(tmp_path / "run")
    drawn = []
    for _ in range(2):
        with set_up(cfg, started_by="my_script.py"):
            drawn.append((random.random(), float(np.random.rand()), float(torch.rand(()))))
    assert drawn[0] == drawn[1]
    assert load_config(tmp_path / "run/config.yaml") == cfg
    assert "torch" in (tmp_path / "run/environment.txt").read_text()
    assert (tmp_path / "run/log.txt").read_text().count(f"my_script.py -> {tmp_path / 'run'}") == 2
    assert capsys.readouterr().out.count("my_script.py ->") == 2
    assert not any(isinstance(handler, Problems) for handler in logging.getLogger().handlers)


def test_a_second_set_up_closes_the_console_of_the_first(small_digits, tmp_path, capsys):
    """A notebook calls it repeatedly, and each line must appear once."""
    for name in "abc":
        console = set_up(cfg_for(tmp_path / name))
    capsys.readouterr()
    try:
        logging.getLogger("retina_plugin.mine").info("logged once")
    finally:
        console.close()
    assert capsys.readouterr().out.count("logged once") == 1
    first, last = ((tmp_path / name / "log.txt").read_text() for name in "ac")
    assert "logged once" in last and "logged once" not in first


def test_a_loader_that_cannot_save_its_position_is_a_warning(small_digits, tmp_path, caplog):
    class Plain(RetinaTrainer):
        @classmethod
        def build_train_loader(cls, cfg):
            return iter(super().build_train_loader(cfg))

    with caplog.at_level(logging.WARNING):
        Plain(cfg_for(tmp_path))
    assert any("cannot save its position in the images" in record.getMessage() for record in caplog.records)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        set_up(cfg_for(tmp_path / "file/run", "MODEL.RETINANET.NUM_CLASSES", 10))


def test_the_start_of_a_run_is_described_by_its_file_and_overrides():
    assert command_of(Namespace(config_file="x.yaml", opts=[])) == "x.yaml"
    assert command_of(Namespace(config_file="x.yaml", opts=["SEED", "1"])) == "x.yaml with SEED 1"
