"""``--data``: a folder of images and annotations is all that a training needs."""

import argparse
import json
import os
import subprocess
import sys

import pytest
from exported import small_checkpoint
from option_pairs import pairs
from support import ROOT

from detectron2.config import CfgNode

from retina_plugin import load_config
from retina_plugin.arguments import argument_parser
from retina_plugin.config.checkpoint_info import config_in_checkpoint
from retina_plugin.config.key import changed_keys
from retina_plugin.data.card import DatasetCard
from retina_plugin.data.digits import generate_digits
from retina_plugin.engine.data_argument import LEARNED, use_data
from retina_plugin.paths import shipped

SHORT = {
    "MODEL.DEVICE": "cpu",
    "SOLVER.EPOCHS": 4,
    "TEST.EVAL_EPOCHS": 2,
    "SOLVER.IMS_PER_BATCH": 4,
    "INPUT.MIN_SIZE_TRAIN": (96,),
    "INPUT.MIN_SIZE_TEST": 96,
    "DATALOADER.NUM_WORKERS": 0,
}


@pytest.fixture()
def pets(tmp_path):
    """A typical folder: pictures, one COCO JSON per split, a test split."""
    generate_digits(tmp_path / "digits", splits={"train": 8, "val": 3, "test": 2})
    return tmp_path / "digits"


def train_net(*words, cwd=ROOT):
    command = [sys.executable, str(ROOT / "train_net.py"), *map(str, words)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, env=env)


def arguments(data, *opts, config_file="", plan=False):
    args = argument_parser().parse_args(["--data", str(data), *([] if plan else ["--no-plan"]), *opts])
    return argparse.Namespace(**{**vars(args), "config_file": config_file})


def test_a_folder_becomes_the_keys_that_train_on_it(pets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = arguments(pets, "SEED", "3")
    said = use_data(args)
    name = DatasetCard.from_file(args.card_file).name
    found = dict(zip(args.opts[0::2], args.opts[1::2], strict=True))
    assert found == {
        "DATASETS.TRAIN": f"('{name}_train',)",
        "DATASETS.TEST": f"('{name}_val',)",
        "OUTPUT_DIR": f"output/{name}",
        "DATASETS.FINAL_TEST": f"('{name}_test',)",
        "SEED": "3",
    }
    assert args.opts[-2:] == ["SEED", "3"], "what the user gave comes last and wins"
    assert args.config_file == str(shipped("configs/finetune.yaml"))
    assert said == f"{pets}: coco, card {args.card_file}\n{args.account}"


def test_a_config_file_that_was_given_is_kept_and_changes_of_the_data_are_reported(pets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    use_data(arguments(pets))
    (pets / "annotations/test.json").unlink(missing_ok=True)
    for file in pets.rglob("*test*.json"):
        file.unlink()
    args = arguments(pets, config_file="mine.yaml")
    said = use_data(args)
    assert args.config_file == "mine.yaml" and f"changed since {args.card_file} was written: splits " in said
    assert "DATASETS.FINAL_TEST" not in args.opts


def test_a_training_is_planned_around_the_keys_of_the_user(pets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    args = arguments(pets, "INPUT.RANDOM_FLIP", "horizontal", plan=True)
    said = use_data(args)
    planned = {key: value for x in json.loads(args.plan)["choices"] for key, value in x["settings"].items()}
    assert "INPUT.MIN_SIZE_TRAIN" in planned and "INPUT.RANDOM_FLIP" not in planned
    keys = args.opts[0::2]
    assert set(planned) < set(keys) and keys[-1] == "INPUT.RANDOM_FLIP", "what the user gave comes last"
    assert "planned from the data (--no-plan trains with configs/finetune.yaml as it is):\ninput size" in said


def test_a_run_that_is_resumed_keeps_its_plan(pets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = arguments(pets, "SOLVER.EPOCHS", "3", plan=True)
    use_data(first)
    run = tmp_path / "run"
    run.mkdir()
    (run / "planned.json").write_text(first.plan)
    planned = {key: value for x in json.loads(first.plan)["choices"] for key, value in x["settings"].items()}
    words = ["--resume", "OUTPUT_DIR", str(run)]
    args = arguments(pets, *words, plan=True)
    use_data(args)
    assert args.plan is not None, "there is nothing to resume yet, as on a cluster that always resumes"
    (run / "last_checkpoint").write_text("model_0000001.pth")
    args = arguments(pets, *words, plan=True)
    assert f"the plan of {run}" in use_data(args) and args.plan is None
    found = dict(zip(args.opts[0::2], args.opts[1::2], strict=True))
    assert all(found[key] == str(value) for key, value in planned.items())
    (run / "planned.json").unlink()
    args = arguments(pets, *words, plan=True)
    use_data(args)
    assert not set(planned) & set(args.opts), "a run without a plan was trained without one"


def test_weights_are_evaluated_with_their_config_and_trained_further_with_their_anchors(pets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = {"MODEL.BOTTOM_UP.NAME": "build_retina_resnet", "MODEL.WEIGHTS": "", "MODEL.PIXELS_FROM": "config"}
    checkpoint = small_checkpoint(tmp_path, **{"MODEL.ANCHOR_GENERATOR.SCALE": 1.7, **network})
    args = arguments(pets, "--eval-only", "MODEL.WEIGHTS", str(checkpoint), plan=True)
    assert "evaluated with the config of" in use_data(args) and args.config_file == str(checkpoint)
    args = arguments(pets, "MODEL.WEIGHTS", str(checkpoint), plan=True)
    assert f"backbone, pyramid, head and anchors are those of {checkpoint}" in use_data(args)
    cfg, stored = load_config(args.config_file, args.opts), CfgNode(config_in_checkpoint(str(checkpoint)))
    assert cfg.MODEL.ANCHOR_GENERATOR.SCALE == 1.7 and cfg.MODEL.BOTTOM_UP.NAME == "build_retina_resnet"
    assert not [change for change in changed_keys(stored, cfg) if change[0].startswith(LEARNED)]
    assert "MODEL.ANCHOR_GENERATOR.SCALE" not in args.plan and "MODEL.RETINANET.HEAD_NAME" not in args.plan


def test_minutes_are_for_one_process_that_plans(pets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ValueError, match="--minutes measures the speed of one process"):
        use_data(arguments(pets, "--minutes", "3", plan=True))


def test_images_that_are_all_too_large_are_refused_by_name(pets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("retina_plugin.engine.data_argument.MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"000000.png is 192x192, more than the 100 pixels of INPUT.MAX_IMAGE_PIXELS"):
        use_data(arguments(pets, plan=True))


def test_a_split_without_a_usable_box_is_refused(pets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (file,) = pets.rglob("*train*.json")
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(ValueError, match="no usable train data: 8 images, none with a box that is not a crowd"):
        use_data(arguments(pets))


@pytest.mark.slow
def test_a_folder_is_all_that_a_training_needs(pets, tmp_path):
    result = train_net("--data", pets, *pairs(SHORT), cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "digits: coco, card datasets/found/digits_2.yaml" in result.stdout, "the bundled dataset has the name"
    assert "10 classes: " in result.stdout and "splits: train 8 images" in result.stdout
    assert "4 epochs of 8 images are 8 iterations" in result.stdout
    out = next((tmp_path / "output").iterdir())
    assert "planned from the data" in result.stdout and (out / "planned.json").is_file()
    assert DatasetCard.from_file(out / "dataset.yaml").classes == [str(digit) for digit in range(10)]
    account = (out / "dataset.txt").read_text()
    assert account in result.stdout and "splits: train 8 images" in (out / "report.html").read_text()
    written = {path.name for path in out.iterdir()}
    assert {"model_best.pth", "model_final.pth", "summary.json", "results.json", "final_test"} <= written
    assert "AP50" in json.loads((out / "final_test/results.json").read_text())["bbox"]
    assert json.loads((out / "summary.json").read_text())["results"]["validation"]["total_loss"] > 0

    # The checkpoint of this run knows its config, its dataset card and the account of the data.
    opts = pairs({**SHORT, "OUTPUT_DIR": tmp_path / "next"})
    result = train_net("--config-file", out / "model_final.pth", *opts, cwd=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    assert (tmp_path / "next/dataset.txt").read_text() == account and (tmp_path / "next/dataset.yaml").is_file()


@pytest.mark.slow
def test_a_folder_that_is_not_a_dataset_is_reported_in_one_sentence(tmp_path):
    result = train_net("--data", tmp_path)
    assert result.returncode == 2 and "has no annotations" in result.stderr and "Traceback" not in result.stderr
