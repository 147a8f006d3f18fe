"""From which checkpoint a run resumes, and with which settings."""

import logging

import pytest
import torch
from support import ROOT, SMALL

from retina_plugin import load_config
from retina_plugin.config import dump_config
from retina_plugin.engine import RetinaTrainer
from retina_plugin.engine.resume import (
    begin_metrics,
    checksum_problem,
    compare,
    find_checkpoint,
    json_lines,
    repair_metrics,
    resume_command,
    write_checksum,
)

DIGITS = ROOT / "configs/digits/quickstart.yaml"


def cfg_for(*opts):
    return load_config(DIGITS, [*SMALL, "DATASETS.TEST", (), *opts])


def checkpoints(folder, *iterations):
    for i in iterations:
        torch.save({"iteration": i, "model": {}}, folder / f"model_{i:07d}.pth")
        write_checksum(folder / f"model_{i:07d}.pth")
    (folder / "last_checkpoint").write_text(f"model_{iterations[-1]:07d}.pth")


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    file.write_bytes(data)


@pytest.mark.parametrize(
    "harm, text",
    [
        (lambda file: file.unlink(), "there is no such file"),
        (lambda file: file.write_bytes(b""), "it is empty"),
        (lambda file: file.write_bytes(file.read_bytes()[:300]), "truncated"),
        (flip, "sha256"),
        (lambda file: file.write_text("hello"), "not a checkpoint"),
    ],
)
def test_a_damaged_last_checkpoint_is_skipped_with_a_warning(harm, text, tmp_path, caplog):
    checkpoints(tmp_path, 9, 19, 29)
    harm(tmp_path / "model_0000029.pth")
    with caplog.at_level("WARNING"):
        assert find_checkpoint(tmp_path).name == "model_0000019.pth"
    assert text in caplog.text and "of iteration 20" in caplog.text


@pytest.mark.parametrize("tag", [None, "", "\0\0\0", "model_9999999.pth", "../model_0000009.pth/"])
def test_without_a_valid_last_checkpoint_file_the_latest_is_used(tag, tmp_path):
    checkpoints(tmp_path, 9, 100, 19)
    (tmp_path / "last_checkpoint").unlink()
    if tag is not None:
        (tmp_path / "last_checkpoint").write_text(tag)
    want = "model_0000009.pth" if tag and "0000009" in tag else "model_0000100.pth"
    assert find_checkpoint(tmp_path).name == want


def test_without_an_intact_checkpoint_it_is_an_error_and_without_any_a_new_run(tmp_path):
    assert find_checkpoint(tmp_path) is None
    checkpoints(tmp_path, 9)
    flip(tmp_path / "model_0000009.pth")
    torch.save({"model": {}}, tmp_path / "model_best.pth")
    with pytest.raises(ValueError, match="model_0000009.pth: its sha256(.|\n)*model_best.pth starts a new run"):
        find_checkpoint(tmp_path)


def test_a_file_that_differs_from_its_checksum_is_refused(tmp_path):
    file = tmp_path / "x.pth"
    file.write_bytes(b"abc")
    assert checksum_problem(file) is None
    write_checksum(file)
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # sha256 of "abc" in FIPS 180-2
    assert (tmp_path / "x.pth.sha256").read_text() == f"{known}  x.pth\n"
    assert checksum_problem(file) is None
    file.write_bytes(b"abd")
    assert "sha256" in checksum_problem(file)


CLASSES = [str(digit) for digit in range(10)]


def saved_with(cfg):
    """The description in a checkpoint of a run with this config."""
    return {"class_names": CLASSES, "config": dump_config(cfg)}


@pytest.mark.parametrize(
    "key, value",
    [
        ("SOLVER.BASE_LR", 0.5),
        ("SOLVER.MAX_ITER", 700),
        ("SOLVER.CHECKPOINT_PERIOD", 3),
        ("SOLVER.STEPS", (3,)),
        ("SOLVER.WEIGHT_DECAY", 0.1),
        ("SOLVER.IMS_PER_BATCH", 4),
        ("TEST.EVAL_PERIOD", 3),
        ("MODEL.RETINANET.FOCAL_LOSS_GAMMA", 1.0),
        ("INPUT.MIN_SIZE_TEST", 99),
        ("SEED", 5),
    ],
)
def test_a_setting_that_may_change_is_reported(key, value):
    (text,) = compare(saved_with(cfg_for()), cfg_for(key, value), CLASSES)
    assert text.startswith(f"{key} ") and "->" in text


@pytest.mark.parametrize(
    "key, value",
    [
        ("SOLVER.OPTIMIZER", "SGD"),
        ("SOLVER.BACKBONE_LR_FACTOR", 0.5),
        ("MODEL.RETINANET.LEVELS", [3, 4, 5, 6]),
        ("MODEL.RETINANET.NORM", "LN"),
        ("MODEL.RETINANET.NUM_CONVS", 3),
        ("MODEL.RETINANET.HEAD_NAME", "shared_tower"),
        ("MODEL.FPN.OUT_CHANNELS", 32),
        ("MODEL.FPN.NAME", "pafpn"),
        ("MODEL.ANCHOR_GENERATOR.SCALE", 3.0),
        ("MODEL.TIMM.NAME", "resnet18"),
    ],
)
def test_a_setting_that_must_not_change_is_refused_with_both_values(key, value):
    with pytest.raises(ValueError) as error:
        compare(saved_with(cfg_for()), cfg_for(key, value), CLASSES)
    assert f"{key} was " in str(error.value) and f"is {value}" in str(error.value) and "\n" not in str(error.value)


def test_classes_cannot_change_but_the_folder_can():
    with pytest.raises(ValueError, match="the classes were 0, 1"):
        compare(saved_with(cfg_for()), cfg_for(), ["cat"] * 10)
    assert compare(saved_with(cfg_for()), cfg_for("OUTPUT_DIR", "elsewhere"), CLASSES) == []


@pytest.mark.slow
def test_a_changed_learning_rate_schedule_and_end_take_effect(small_digits, tmp_path, caplog):
    def go(*opts, resume=False):
        trainer = RetinaTrainer(cfg_for("OUTPUT_DIR", str(tmp_path), "SOLVER.WARMUP_ITERS", 1, *opts))
        trainer.resume_or_load(resume=resume)
        return trainer

    first = go("SOLVER.MAX_ITER", 4)
    first.max_iter = 2
    first.train()
    with caplog.at_level(logging.INFO):
        second = go("SOLVER.MAX_ITER", 8, "SOLVER.BASE_LR", 0.01, "SOLVER.WEIGHT_DECAY", 0.2, resume=True)
    assert second.start_iter == 2 and second.max_iter == 8
    assert "SOLVER.BASE_LR 0.001 -> 0.01" in caplog.text and "SOLVER.MAX_ITER 4 -> 8" in caplog.text
    fresh = go("SOLVER.MAX_ITER", 8, "SOLVER.BASE_LR", 0.01, "SOLVER.WEIGHT_DECAY", 0.2)
    fresh.scheduler.last_epoch = 2
    assert second.optimizer.param_groups[0]["lr"] == fresh.scheduler.get_lr()[0]
    decays = [{group["weight_decay"] for group in run.optimizer.param_groups} for run in (second, fresh)]
    assert decays[0] == decays[1]
    moments = [state["exp_avg"] for state in second.optimizer.state.values()]
    assert any(m.abs().sum() > 0 for m in moments), "the optimizer keeps its state"
    with pytest.raises(ValueError, match="MODEL.FPN.OUT_CHANNELS was 16, is 32"):
        go("MODEL.FPN.OUT_CHANNELS", 32, resume=True)


@pytest.mark.parametrize(
    "text", ["", '{"iteration": 1, "ti', "[1]\n3\nnull\n", "\0\0\n", '{"time": "x"}\n', "nonsense\n"]
)
def test_a_partial_line_of_metrics_is_ignored(text, tmp_path):
    file = tmp_path / "metrics.json"
    file.write_text('{"iteration": 0, "time": 0.5}\n' + text)
    repair_metrics(file)
    with open(file, "a") as stream:
        stream.write('{"iteration": 9}\n')
    found = json_lines(file)
    assert found[0]["iteration"] == 0 and found[-1] == {"iteration": 9}


def test_metrics_of_an_earlier_run_are_kept_under_another_name(tmp_path):
    file = tmp_path / "metrics.json"
    for text in ("first", "second"):
        file.write_text(text)
        begin_metrics(tmp_path)
    begin_metrics(tmp_path)  # empty: nothing to keep
    assert file.read_text() == "" and (tmp_path / "metrics_earlier.json").read_text() == "first"
    assert (tmp_path / "metrics_earlier_2.json").read_text() == "second" and len(list(tmp_path.iterdir())) == 3


def test_the_command_that_resumes_a_run_names_its_config_and_folder():
    command = resume_command(cfg_for("OUTPUT_DIR", "output/pets"))
    assert command.endswith("train_net.py --config-file output/pets/config.yaml --resume OUTPUT_DIR output/pets")
