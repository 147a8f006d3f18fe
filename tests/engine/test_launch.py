"""train_net.py as users call it."""

import json
import os
import subprocess
import sys
from argparse import Namespace

import pytest
import torch
from support import ROOT, SMALL

from retina_plugin.engine.launch import _keep_dataset_card

pytestmark = pytest.mark.slow

DIGITS = "configs/digits/quickstart.yaml"
SHORT = ["SOLVER.MAX_ITER", 4, "SOLVER.WARMUP_ITERS", 2, "SOLVER.CHECKPOINT_PERIOD", 2]


def call(*words, launcher=(), **env):
    command = [*(launcher or [sys.executable]), "train_net.py", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **env}, timeout=300)


def test_train_resume_and_evaluate(small_digits, tmp_path):
    common = ["--config-file", DIGITS]
    opts = [*SMALL, *SHORT, "OUTPUT_DIR", tmp_path]
    result = call(*common, *opts)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "training on cpu in float32" in result.stdout and "iteration 1 of 4 (25 %)" in result.stdout
    record = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert set(record) >= {"config.yaml", "environment.txt", "log.txt", "model.txt", "metrics.json", "model_final.pth"}
    assert set(record) >= {"results.json", "coco_table.md"}
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert sum("training on cpu" in line for line in lines) == 1, "logged once"
    trained = json.loads((tmp_path / "results.json").read_text())

    result = call(*common, "--eval-only", *opts, "MODEL.WEIGHTS", tmp_path / "model_final.pth")
    assert result.returncode == 0, result.stderr[-3000:]
    evaluated = json.loads((tmp_path / "eval/model_final/results.json").read_text())
    assert evaluated["bbox"]["AP"] == pytest.approx(trained["bbox"]["AP"], nan_ok=True)
    now = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert now == record, "an evaluation leaves the run's own files as they are"

    result = call(*common, *opts)
    assert result.returncode == 2 and "--resume continues it, --overwrite removes it" in result.stderr

    result = call(*common, "--resume", *opts, "SOLVER.MAX_ITER", 6)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "resumed at iteration 4 of 6" in result.stdout


def test_two_processes_under_torchrun_write_one_run_and_a_log_each(small_digits, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29711"]
    words = ["--config-file", DIGITS, *SMALL, *SHORT, "OUTPUT_DIR", tmp_path]
    result = call(*words, launcher=launcher, OMP_NUM_THREADS="1")
    assert result.returncode == 0, result.stderr[-3000:]
    state = torch.load(tmp_path / "model_final.pth", weights_only=True)
    # It moves; tests/engine/test_two_processes.py compares it with that of one process.
    assert state["model"]["loss_normalizer"] != 100
    assert (tmp_path / "log.txt.rank1").exists() and "finished" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    "opts, text",
    [
        (["--config-file", "nowhere.yaml"], "error: config file 'nowhere.yaml' does not exist"),
        (["--config-file", DIGITS, "MODEL.RETINANET.NUM_CLASES", "3"], "did you mean MODEL.RETINANET.NUM_CLASSES?"),
        (["--config-file", DIGITS, "MODEL.ROI_HEADS.NUM_CLASSES", "3"], "has no effect on a RetinaNet"),
        (["--config-file", DIGITS, "MODEL.RETINANET.NUM_CLASSES", "80"], "the dataset digits_train has 10 classes"),
    ],
)
def test_a_mistake_of_the_user_is_reported_in_one_sentence(opts, text):
    result = call(*opts)
    assert result.returncode == 2 and text in result.stderr and "Traceback" not in result.stderr


def test_more_gpus_than_available_are_refused():
    result = call("--config-file", DIGITS, "--num-gpus", torch.cuda.device_count() + 2)
    assert result.returncode == 2 and "found here" in result.stderr


@pytest.mark.parametrize("account", ["10 classes", None])
def test_the_dataset_card_of_a_checkpoint_is_kept_in_the_new_run(account, tmp_path):
    card, folder = tmp_path / "old.yaml", tmp_path / "run"
    card.write_text("name: pets")
    folder.mkdir()
    _keep_dataset_card(Namespace(card_file=str(card), **({"account": account} if account else {})), folder)
    assert (folder / "dataset.yaml").read_text() == "name: pets"
    assert (folder / "dataset.txt").exists() == bool(account)


def test_resuming_a_run_from_its_own_checkpoint_leaves_its_card_alone(tmp_path):
    (tmp_path / "dataset.yaml").write_text("name: pets")
    _keep_dataset_card(Namespace(card_file=str(tmp_path / "dataset.yaml")), tmp_path)
    assert (tmp_path / "dataset.yaml").read_text() == "name: pets"
