"""Train Detectron2's own RetinaNet and the plugin's on the same data, with the same backbone, schedule and seed.

    python tools/compare_with_detectron2.py --config-file configs/bccd/compare.yaml [--only SIDE] [KEY VALUE ...]

Pyramid, anchors, head, losses, optimizer, schedule, batch, augmentation and seed are the same. Detectron2's side uses
its own ``RetinaNet``, ``SimpleTrainer``, mapper, loader, evaluator and float32, unmodified; the plugin's side uses the
plugin's defaults. Features that Detectron2 lacks (averaged weights, freezing at the start, crowd regions) are off on
its side. Prints AP and minutes of both and writes them to OUTPUT_DIR/comparison.json.
"""

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path

from torch import nn

from detectron2.config import CfgNode
from detectron2.data import build_detection_train_loader
from detectron2.engine import DefaultTrainer, SimpleTrainer
from detectron2.modeling import build_model
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger

from retina_plugin import load_config
from retina_plugin.data.catalog import load_datasets
from retina_plugin.data.mapper import build_mapper
from retina_plugin.engine import RetinaTrainer
from retina_plugin.modeling.anchors import anchor_sizes
from retina_plugin.modeling.neck import PyramidLevels


def as_it_comes(cfg: CfgNode) -> CfgNode:
    """Return the config of the same experiment without the features that Detectron2 lacks."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.AMP.ENABLED = False
    cfg.SOLVER.EMA_DECAY = 0.0
    cfg.INPUT.READER = cfg.TEST.EVALUATOR = "detectron2"
    cfg.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR) / "detectron2")
    cfg.freeze()
    return cfg


def detectron2_retinanet(cfg: CfgNode) -> nn.Module:
    """Build Detectron2's ``RetinaNet``, with the keys set that the plugin derives from the levels."""
    cfg = cfg.clone()
    cfg.defrost()
    pyramid = PyramidLevels.from_config(cfg)
    anchors = cfg.MODEL.ANCHOR_GENERATOR
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.RETINANET.IN_FEATURES = pyramid.features
    anchors.NAME = "DefaultAnchorGenerator"
    anchors.SIZES = anchors.SIZES or anchor_sizes(
        [2**level for level in pyramid.levels], scale=anchors.SCALE, scales_per_octave=anchors.SCALES_PER_OCTAVE
    )
    return build_model(cfg)


def train(cfg: CfgNode, trainer_class: type[RetinaTrainer]) -> dict:
    """Train and evaluate; return AP, AP50, AP75 (percent) and the minutes that both took together."""
    Path(cfg.OUTPUT_DIR).mkdir(parents=True, exist_ok=True)
    seed_all_rng(cfg.SEED)
    trainer = trainer_class(cfg)
    trainer.checkpointer.load(cfg.MODEL.WEIGHTS, checkpointables=[])
    seed_all_rng(cfg.SEED)  # again, because loading may draw random numbers: the order of the images must be the same
    start = time.perf_counter()
    trainer.train()
    minutes = (time.perf_counter() - start) / 60
    results = getattr(trainer, "_last_eval_results", None) or trainer.results
    assert results is not None  # both trainers evaluate at the end
    box = results["bbox"]
    return {**{name: round(box[name], 2) for name in ("AP", "AP50", "AP75")}, "minutes": round(minutes, 2)}


class Detectron2Trainer(RetinaTrainer):
    """The plugin's solver and augmentations around Detectron2's model, loop and loader."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        self._trainer = SimpleTrainer(self.model, self._trainer.data_loader, self.optimizer)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Build Detectron2's model."""
        return detectron2_retinanet(cfg)

    build_hooks, train, before_step = DefaultTrainer.build_hooks, DefaultTrainer.train, DefaultTrainer.before_step

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable:  # type: ignore[override]  # not the plugin's, on purpose
        """Build Detectron2's loader on the same checked data."""
        dataset = load_datasets(
            list(cfg.DATASETS.TRAIN),
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            on_problem=cfg.DATASETS.ON_PROBLEM,
        )
        return build_detection_train_loader(cfg, mapper=build_mapper(cfg, is_train=True), dataset=dataset)


def main() -> None:
    """Train the chosen sides, print the comparison and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--only", choices=["plugin", "detectron2"], help="train this side only")
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    cfg = load_config(args.config_file, [*args.opts, "TEST.EVAL_PERIOD", 0])
    setup_logger(name="detectron2")
    setup_logger(name="retina_plugin", abbrev_name="retina")
    results = {}
    if args.only != "detectron2":
        results["plugin"] = train(cfg, RetinaTrainer)
    if args.only != "plugin":
        results["detectron2"] = train(as_it_comes(cfg), Detectron2Trainer)
    if not args.only:
        ratio = results["detectron2"]["minutes"] / results["plugin"]["minutes"]
        results["minutes, detectron2 / plugin"] = round(ratio, 2)
    (Path(cfg.OUTPUT_DIR) / "comparison.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
