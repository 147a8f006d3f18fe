"""Training through Detectron2's trainer: it learns, resumes, evaluates."""

import pytest
import torch
from conftest import ROOT, SMALL

from detectron2.engine import DefaultTrainer, hooks

from retina_plugin import load_config
from retina_plugin.data.problems import DatasetProblems
from retina_plugin.engine import RetinaTrainer, argument_parser, run
from retina_plugin.engine.trainer import check_device

DIGITS = ROOT / "configs/digits/quickstart.yaml"


def cfg_for(folder, *opts):
    return load_config(DIGITS, [*SMALL, "OUTPUT_DIR", str(folder), *opts])


def test_it_trains_writes_and_evaluates(small_digits, tmp_path):
    cfg = cfg_for(
        tmp_path,
        "SOLVER.MAX_ITER",
        4,
        "SOLVER.WARMUP_ITERS",
        2,
        "SOLVER.CHECKPOINT_PERIOD",
        2,
        "TEST.EVAL_PERIOD",
        2,
        "MODEL.RETINANET.SCORE_THRESH_TEST",
        0.001,
    )
    trainer = RetinaTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert set(trainer.results["bbox"]) >= {"AP", "AP50", "AP-0", "AP-9"}
    assert {"model_0000001.pth", "model_final.pth", "metrics.json", "last_checkpoint"} <= {
        p.name for p in tmp_path.iterdir()
    }


def test_resuming_restores_weights_optimizer_schedule_and_normaliser(small_digits, tmp_path):
    half = cfg_for(
        tmp_path, "SOLVER.MAX_ITER", 4, "SOLVER.WARMUP_ITERS", 2, "SOLVER.CHECKPOINT_PERIOD", 2, "DATASETS.TEST", ()
    )
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
def test_four_images_are_learnt_by_heart(small_digits, tmp_path):
    cfg = cfg_for(
        tmp_path, "SOLVER.MAX_ITER", 100, "SOLVER.WARMUP_ITERS", 20, "MODEL.FPN.OUT_CHANNELS", 64, "MODEL.RETINANET.NUM_CONVS", 2,
        "DATASETS.TRAIN", "('digits_val',)", "SOLVER.IMS_PER_BATCH", 4,
    )  # fmt: skip
    trainer = RetinaTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    results = RetinaTrainer.test(cfg, trainer.model)
    assert results["bbox"]["AP50"] > 90
    # The detections of a real model: Detectron2's evaluator on pycocotools has the same figures.
    cfg.defrost()
    cfg.TEST.EVALUATOR = "detectron2"
    want = RetinaTrainer.test(cfg, trainer.model)["bbox"]
    assert len(want) == 6 + 10
    assert {name: results["bbox"][name] for name in want} == pytest.approx(want, abs=1e-9, nan_ok=True)


def test_data_with_problems_is_refused_by_key(small_digits, tmp_path, monkeypatch):
    from retina_plugin.data import catalog
    from retina_plugin.data.problems import Kind, Problem

    load = catalog.load_split

    def load_with_problem(*args, **options):
        result = load(*args, **options)
        result.problems.append(Problem(Kind.FILE, "f.json", "is wrong"))
        return result

    monkeypatch.setattr(catalog, "load_split", load_with_problem)
    RetinaTrainer.build_train_loader(cfg_for(tmp_path, "DATASETS.ON_PROBLEM", "drop"))
    with pytest.raises(DatasetProblems, match="is wrong"):
        RetinaTrainer.build_train_loader(cfg_for(tmp_path, "DATASETS.ON_PROBLEM", "refuse"))


def test_so_many_checkpoints_are_kept_and_precise_bn_runs_if_asked_for(small_digits, tmp_path):
    cfg = cfg_for(
        tmp_path, "SOLVER.MAX_ITER", 6, "SOLVER.WARMUP_ITERS", 2, "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.CHECKPOINTS_KEPT", 1, "DATASETS.TEST", (),
        "TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.NUM_ITER", 2, "TEST.EVAL_PERIOD", 3,
    )  # fmt: skip
    trainer = RetinaTrainer(cfg)
    assert sum(isinstance(hook, hooks.PreciseBN) for hook in trainer._hooks) == 1
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["model_0000005.pth", "model_final.pth"]
    again = RetinaTrainer(cfg)
    again.resume_or_load(resume=True)
    assert again.start_iter == 6


def test_detectron2s_own_trainer_trains_the_model_on_a_cpu(small_digits, tmp_path):
    """With a schedule of Detectron2's, and SOLVER.AMP as Base-RetinaNet.yaml has it, which Detectron2 can only do on CUDA."""
    cfg = cfg_for(
        tmp_path,
        "SOLVER.AMP.ENABLED",
        True,
        "SOLVER.MAX_ITER",
        2,
        "SOLVER.WARMUP_ITERS",
        1,
        "DATASETS.TEST",
        (),
        "SOLVER.LR_SCHEDULER_NAME",
        "WarmupMultiStepLR",
        "SOLVER.STEPS",
        (),
    )
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert trainer.iter == 2 and (tmp_path / "model_final.pth").exists()


def test_run_takes_a_trainer_and_returns_where_it_wrote(small_digits, tmp_path, monkeypatch):
    built = []

    class Mine(RetinaTrainer):
        def build_hooks(self):
            built.append(self.cfg.OUTPUT_DIR)
            return super().build_hooks()

    monkeypatch.chdir(tmp_path)
    words = [
        "--config-file",
        str(DIGITS),
        *map(str, SMALL),
        "SOLVER.MAX_ITER",
        "2",
        "SOLVER.WARMUP_ITERS",
        "1",
        "DATASETS.TEST",
        "()",
    ]
    folders = [run(argument_parser().parse_args(words), trainer=Mine) for _ in range(2)]
    assert [str(folder) for folder in folders] == built == ["output/quickstart", "output/quickstart_2"]
    assert all(
        (folder / "model_final.pth.sha256").exists()
        and (folder / "model.txt").read_text().startswith("RetinaPluginNet(")
        for folder in folders
    )


@pytest.mark.parametrize("device", ["gpu", "cuda:1:2", "mps:3", ""])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(ValueError, match="MODEL.DEVICE is .*; there are cpu"):
        check_device(device)


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("SOLVER.BASE_LR", float("inf"), "BASE_LR"),
        ("SOLVER.BASE_LR", float("nan"), "BASE_LR"),
        ("SOLVER.CLIP_GRADIENTS", "full_model", "CLIP_TYPE"),
    ],
)
def test_a_solver_that_cannot_work_is_named(key, value, said, tmp_path):
    cfg = cfg_for(tmp_path).clone()
    cfg.defrost()
    if key == "SOLVER.BASE_LR":
        cfg.SOLVER.BASE_LR = value
    else:
        cfg.SOLVER.CLIP_GRADIENTS.ENABLED, cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = True, value
    with pytest.raises(ValueError, match=said):
        RetinaTrainer.build_optimizer(cfg, torch.nn.Linear(1, 1))


def test_weights_that_are_not_finite_are_not_written(small_digits, tmp_path):
    trainer = RetinaTrainer(cfg_for(tmp_path, "DATASETS.TEST", ()))
    trainer.checkpointer.save("model_good")
    trainer.model.head.cls_score.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(
        FloatingPointError,
        match="model_bad.pth is not written: the weights hold infinities or NaN in head.cls_score.weight",
    ):
        trainer.checkpointer.save("model_bad")
    assert {path.name for path in tmp_path.glob("*.pth*")} == {"model_good.pth", "model_good.pth.sha256"} and (
        tmp_path / "last_checkpoint"
    ).read_text() == "model_good.pth"
