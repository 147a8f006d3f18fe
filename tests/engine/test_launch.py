"""train_net.py as people call it."""

import json
import os
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, SMALL

from retina_plugin.data.card import DatasetCard

DIGITS = "configs/digits/quickstart.yaml"
SHORT = ["SOLVER.MAX_ITER", 4, "SOLVER.WARMUP_ITERS", 2, "SOLVER.CHECKPOINT_PERIOD", 2]


def call(*words, launcher=(), env=()):
    command = [*(launcher or [sys.executable]), "train_net.py", *map(str, words)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **dict(env)}, timeout=300
    )


def test_train_resume_and_evaluate(small_digits, tmp_path):
    common = ["--config-file", DIGITS]
    opts = [*SMALL, *SHORT, "OUTPUT_DIR", tmp_path]
    result = call(*common, *opts)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "training on cpu in float32" in result.stdout and "iteration 1 of 4 (25 %)" in result.stdout
    assert {
        "config.yaml",
        "environment.txt",
        "log.txt",
        "model.txt",
        "metrics.json",
        "results.json",
        "coco_table.md",
        "model_final.pth",
    } <= {p.name for p in tmp_path.iterdir()}
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert sum("training on cpu" in line for line in lines) == 1, "logged once"
    trained = json.loads((tmp_path / "results.json").read_text())

    record = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    result = call(*common, "--eval-only", *opts, "MODEL.WEIGHTS", tmp_path / "model_final.pth")
    assert result.returncode == 0, result.stderr[-3000:]
    assert json.loads((tmp_path / "eval/model_final/results.json").read_text())["bbox"]["AP"] == pytest.approx(
        trained["bbox"]["AP"], nan_ok=True
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == record, (
        "the record of the run stays as it is"
    )

    result = call(*common, *opts)
    assert result.returncode == 2 and "--resume goes on with it, --overwrite removes it" in result.stderr

    result = call(*common, "--resume", *opts, "SOLVER.MAX_ITER", 6)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "resumed at iteration 4 of 6" in result.stdout


def test_two_processes_under_torchrun_write_one_run_and_a_log_each(small_digits, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29711"]
    result = call(
        "--config-file",
        DIGITS,
        *SMALL,
        *SHORT,
        "OUTPUT_DIR",
        tmp_path,
        launcher=launcher,
        env={"OMP_NUM_THREADS": "1"}.items(),
    )
    assert result.returncode == 0, result.stderr[-3000:]
    state = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert state["model"]["loss_normalizer"] != 100, (
        "it moves; tests/engine/test_two_processes.py compares it with that of one process"
    )
    assert (tmp_path / "log.txt.rank1").exists() and "finished" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    "opts, said",
    [
        (["--config-file", "nowhere.yaml"], "error: config file 'nowhere.yaml' does not exist"),
        (["--config-file", DIGITS, "MODEL.RETINANET.NUM_CLASES", "3"], "did you mean MODEL.RETINANET.NUM_CLASSES?"),
        (["--config-file", DIGITS, "MODEL.ROI_HEADS.NUM_CLASSES", "3"], "has no effect on a RetinaNet"),
        (["--config-file", DIGITS, "MODEL.RETINANET.NUM_CLASSES", "80"], "the dataset digits_train has 10 classes"),
    ],
)
def test_mistakes_end_with_one_sentence(opts, said):
    result = call(*opts)
    assert result.returncode == 2 and said in result.stderr and "Traceback" not in result.stderr


def test_more_gpus_than_there_are():
    result = call("--config-file", DIGITS, "--num-gpus", torch.cuda.device_count() + 2)
    assert result.returncode == 2 and "found here" in result.stderr


@pytest.fixture()
def pets(tmp_path):
    """A folder as people have it: pictures, one COCO JSON, a test split."""
    from retina_plugin.data.digits import generate_digits

    generate_digits(tmp_path / "digits", splits={"train": 8, "val": 3, "test": 2})
    return tmp_path / "digits"


def test_a_folder_is_all_it_takes(pets, tmp_path):
    small = [
        "MODEL.DEVICE",
        "cpu",
        "SOLVER.EPOCHS",
        4,
        "TEST.EVAL_EPOCHS",
        2,
        "SOLVER.IMS_PER_BATCH",
        4,
        "INPUT.MIN_SIZE_TRAIN",
        "(96,)",
        "INPUT.MIN_SIZE_TEST",
        96,
        "DATALOADER.NUM_WORKERS",
        0,
    ]
    command = [sys.executable, ROOT / "train_net.py", "--data", pets, *map(str, small)]
    result = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "digits: coco, card datasets/found/digits_2.yaml" in result.stdout, "the bundled dataset has the name"
    assert "10 classes: " in result.stdout and "splits: train 8 images" in result.stdout
    out = next((tmp_path / "output").iterdir())
    assert DatasetCard.from_file(out / "dataset.yaml").classes == [str(digit) for digit in range(10)]
    account = (out / "dataset.txt").read_text()
    assert account in result.stdout and "splits: train 8 images" in (out / "report.html").read_text()
    assert {"model_best.pth", "model_final.pth", "summary.json", "results.json", "final_test"} <= {
        p.name for p in out.iterdir()
    }
    assert "AP50" in json.loads((out / "final_test/results.json").read_text())["bbox"]
    assert json.loads((out / "summary.json").read_text())["results"]["validation"]["total_loss"] > 0
    assert "4 epochs of 8 images are 8 iterations" in result.stdout


def test_a_folder_that_is_no_dataset_ends_with_one_sentence(tmp_path):
    result = call("--data", tmp_path)
    assert result.returncode == 2 and "it holds nothing" in result.stderr and "Traceback" not in result.stderr
