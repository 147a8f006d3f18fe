"""Evaluation of weights without training."""

import json

import pytest
from support import ROOT, SMALL

from retina_plugin import load_config
from retina_plugin.config import INFO_KEY
from retina_plugin.engine import RetinaTrainer, argument_parser, run
from retina_plugin.engine.evaluate import check_classes

DIGITS = ROOT / "configs/digits/quickstart.yaml"
NUMBERS = [str(digit) for digit in range(10)]


@pytest.fixture()
def cfg(small_digits, tmp_path):
    return load_config(DIGITS, [*SMALL, "OUTPUT_DIR", str(tmp_path / "run")])


def test_the_same_classes_in_a_different_order_are_refused(cfg):
    with pytest.raises(ValueError, match=r"w.pth was trained with its classes in a different order \(9, 8"):
        check_classes({INFO_KEY: {"class_names": NUMBERS[::-1]}}, cfg, "w.pth")


def test_different_classes_are_a_warning_and_the_same_or_none_are_not(cfg, caplog):
    check_classes({INFO_KEY: {"class_names": NUMBERS}}, cfg, "w.pth")
    check_classes({}, cfg, "w.pth")
    assert not caplog.records
    check_classes({INFO_KEY: {"class_names": ["cat", "dog"]}}, cfg, "w.pth")
    assert "w.pth was trained on the classes cat, dog, but is evaluated on the classes 0, 1" in caplog.text


def test_results_go_to_a_new_folder_below_the_run_of_the_weights(cfg, tmp_path, monkeypatch):
    trainer = RetinaTrainer(cfg)
    trainer.checkpointer.save("model_x")
    (tmp_path / "run/config.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    words = ["--config-file", str(DIGITS), *map(str, SMALL), "--eval-only"]
    args = argument_parser().parse_args([*words, "MODEL.WEIGHTS", str(tmp_path / "run/model_x.pth")])
    folders = [run(args) for _ in range(2)]
    assert folders == [tmp_path / "run/eval/model_x", tmp_path / "run/eval/model_x_2"]
    results = [json.loads((folder / "results.json").read_text()) for folder in folders]
    assert results[0] == results[1] and "AP50" in results[0]["bbox"]
    assert (tmp_path / "run/config.yaml").read_text() == "", "the run's own files stay as they are"


def test_each_of_several_datasets_is_reported(cfg, tmp_path, monkeypatch, capsys):
    trainer = RetinaTrainer(cfg)
    trainer.checkpointer.save("model_x")
    (tmp_path / "run/config.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    words = ["--config-file", str(DIGITS), *map(str, SMALL), "--eval-only"]
    words += ["DATASETS.TEST", "('digits_val', 'digits_train')", "MODEL.WEIGHTS", str(tmp_path / "run/model_x.pth")]
    folder = run(argument_parser().parse_args(words))
    for table in (folder / "coco_table.md", folder / "digits_train/coco_table.md"):
        assert "AP50" in json.loads(table.with_name("results.json").read_text())["bbox"]
    out = capsys.readouterr().out
    assert f"digits_val: AP 0.0, AP50 0.0, AP75 0.0; full table in {folder / 'coco_table.md'}" in out
    assert f"digits_train: AP 0.0, AP50 0.0, AP75 0.0; full table in {folder / 'digits_train/coco_table.md'}" in out
