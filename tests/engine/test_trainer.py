"""Training with a subclass of Detectron2's trainer: it learns, resumes and evaluates."""

import sys

import pytest
import torch
from option_pairs import pairs
from support import ROOT, SMALL

from detectron2.engine import DefaultTrainer

from retina_plugin import load_config
from retina_plugin.engine import RetinaTrainer, argument_parser, run

DIGITS = ROOT / "configs/digits/quickstart.yaml"
FOUR_ITERATIONS = {"SOLVER.MAX_ITER": 4, "SOLVER.WARMUP_ITERS": 2, "SOLVER.CHECKPOINT_PERIOD": 2}


def cfg_for(folder, *opts):
    return load_config(DIGITS, [*SMALL, "OUTPUT_DIR", str(folder), *opts])


@pytest.mark.slow
def test_it_trains_writes_and_evaluates(small_digits, tmp_path):
    options = {"TEST.EVAL_PERIOD": 2, "MODEL.RETINANET.SCORE_THRESH_TEST": 0.001}
    trainer = RetinaTrainer(cfg_for(tmp_path, *pairs({**FOUR_ITERATIONS, **options})))
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert set(trainer.results["bbox"]) >= {"AP", "AP50", "AP-0", "AP-9"}
    written = {path.name for path in tmp_path.iterdir()}
    assert {"model_0000001.pth", "model_final.pth", "metrics.json", "last_checkpoint"} <= written


def test_resuming_restores_weights_optimizer_schedule_and_normaliser(small_digits, tmp_path):
    half = cfg_for(tmp_path, *pairs({**FOUR_ITERATIONS, "DATASETS.TEST": ()}))
    first = RetinaTrainer(half)
    first.resume_or_load(resume=False)
    first.max_iter = 2  # stopped half way
    first.train()
    second = RetinaTrainer(half)
    second.resume_or_load(resume=True)
    assert second.start_iter == 2
    for (name, a), (_, b) in zip(first.model.state_dict().items(), second.model.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    assert second.model.loss_normalizer != 100
    moments = [state["exp_avg"] for state in second.optimizer.state.values()]
    assert moments and any(m.abs().sum() > 0 for m in moments)
    assert second.scheduler.state_dict()["last_epoch"] == first.scheduler.state_dict()["last_epoch"]


@pytest.mark.slow
def test_it_trains_without_tensorboard(small_digits, tmp_path, monkeypatch):
    """TensorBoard is an extra; torch's writer for it cannot be imported without."""
    monkeypatch.setattr("retina_plugin.engine.trainer.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    trainer = RetinaTrainer(cfg_for(tmp_path, *pairs({**FOUR_ITERATIONS, "DATASETS.TEST": ()})))
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert (tmp_path / "metrics.json").stat().st_size > 0 and not list(tmp_path.glob("events.*"))


@pytest.mark.long
def test_four_images_can_be_overfitted(small_digits, tmp_path):
    options = {
        "SOLVER.MAX_ITER": 100,
        "SOLVER.WARMUP_ITERS": 20,
        "SOLVER.IMS_PER_BATCH": 4,
        "MODEL.FPN.OUT_CHANNELS": 64,
        "MODEL.RETINANET.NUM_CONVS": 2,
        "DATASETS.TRAIN": ("digits_val",),
    }
    cfg = cfg_for(tmp_path, *pairs(options))
    trainer = RetinaTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    results = RetinaTrainer.test(cfg, trainer.model)
    assert results["bbox"]["AP50"] > 90
    # On detections of a real model, Detectron2's evaluator with pycocotools gets the same metrics.
    cfg.defrost()
    cfg.TEST.EVALUATOR = "detectron2"
    want = RetinaTrainer.test(cfg, trainer.model)["bbox"]
    assert len(want) == 6 + 10
    assert {name: results["bbox"][name] for name in want} == pytest.approx(want, abs=1e-9, nan_ok=True)


@pytest.mark.slow
def test_old_checkpoints_are_removed_also_with_precise_bn(small_digits, tmp_path):
    options = {
        **FOUR_ITERATIONS,
        "SOLVER.MAX_ITER": 6,
        "SOLVER.CHECKPOINTS_KEPT": 1,
        "DATASETS.TEST": (),
        "TEST.PRECISE_BN.ENABLED": True,
        "TEST.PRECISE_BN.NUM_ITER": 2,
        "TEST.EVAL_PERIOD": 3,
    }
    cfg = cfg_for(tmp_path, *pairs(options))
    trainer = RetinaTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["model_0000005.pth", "model_final.pth"]
    again = RetinaTrainer(cfg)
    again.resume_or_load(resume=True)
    assert again.start_iter == 6


def test_the_default_trainer_of_detectron2_trains_the_model_on_a_cpu(small_digits, tmp_path):
    """With one of its schedules, and with SOLVER.AMP, which Base-RetinaNet.yaml sets and it only supports on CUDA."""
    options = {
        "SOLVER.AMP.ENABLED": True,
        "SOLVER.MAX_ITER": 2,
        "SOLVER.WARMUP_ITERS": 1,
        "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
        "SOLVER.STEPS": (),
        "DATASETS.TEST": (),
    }
    trainer = DefaultTrainer(cfg_for(tmp_path, *pairs(options)))
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert trainer.iter == 2 and (tmp_path / "model_final.pth").exists()


@pytest.mark.slow
def test_run_uses_a_custom_trainer_and_returns_its_folder(small_digits, tmp_path, monkeypatch):
    built = []

    class Mine(RetinaTrainer):
        def build_hooks(self):
            built.append(self.cfg.OUTPUT_DIR)
            return super().build_hooks()

    monkeypatch.chdir(tmp_path)
    opts = [*SMALL, *pairs({"SOLVER.MAX_ITER": 2, "SOLVER.WARMUP_ITERS": 1, "DATASETS.TEST": ()})]
    words = ["--config-file", str(DIGITS), *map(str, opts)]
    folders = [run(argument_parser().parse_args(words), trainer=Mine) for _ in range(2)]
    assert [str(folder) for folder in folders] == built == ["output/quickstart", "output/quickstart_2"]
    for folder in folders:
        assert (folder / "model_final.pth.sha256").exists()
        assert (folder / "model.txt").read_text().startswith("RetinaPluginNet(")


@pytest.mark.parametrize(
    "key, value, text",
    [
        ("SOLVER.BASE_LR", float("inf"), "BASE_LR"),
        ("SOLVER.BASE_LR", float("nan"), "BASE_LR"),
        ("SOLVER.CLIP_GRADIENTS", "full_model", "CLIP_TYPE"),
    ],
)
def test_invalid_solver_settings_are_refused(key, value, text, tmp_path):
    cfg = cfg_for(tmp_path).clone()
    cfg.defrost()
    if key == "SOLVER.BASE_LR":
        cfg.SOLVER.BASE_LR = value
    else:
        cfg.SOLVER.CLIP_GRADIENTS.ENABLED, cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = True, value
    with pytest.raises(ValueError, match=text):
        RetinaTrainer.build_optimizer(cfg, torch.nn.Linear(1, 1))


def test_non_finite_weights_are_not_written(small_digits, tmp_path):
    trainer = RetinaTrainer(cfg_for(tmp_path, "DATASETS.TEST", ()))
    trainer.checkpointer.save("model_good")
    trainer.model.head.cls_score.weight.data[0, 0, 0, 0] = float("nan")
    text = "model_bad.pth is not written: the weights hold infinities or NaN in head.cls_score.weight"
    with pytest.raises(FloatingPointError, match=text):
        trainer.checkpointer.save("model_bad")
    assert {path.name for path in tmp_path.glob("*.pth*")} == {"model_good.pth", "model_good.pth.sha256"}
    assert (tmp_path / "last_checkpoint").read_text() == "model_good.pth"
