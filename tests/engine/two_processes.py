"""Train a few steps and write the losses of each, in one process or under torchrun.

Usage: ``python two_processes.py FILE STEPS [KEY VALUE ...]``.
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from detectron2.engine import HookBase
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng

from retina_plugin import load_config
from retina_plugin.engine import RetinaTrainer

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {
    "MODEL.DEVICE": "cpu",
    "MODEL.WEIGHTS": "",
    "MODEL.BOTTOM_UP.NAME": "build_retina_resnet",
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.RESNETS.NORM": "GN",
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.FPN.NORM": "",
    "MODEL.RETINANET.NORM": "",
    "MODEL.RETINANET.NUM_CONVS": 1,
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "INPUT.MAX_SIZE_TRAIN": 64,
    "INPUT.RANDOM_FLIP": "horizontal",
    "INPUT.COLOR_JITTER": 0.3,
    "DATASETS.TEST": (),
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.OPTIMIZER": "SGD",
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.WARMUP_ITERS": 5,
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.REFERENCE_BATCH_SIZE": 0,
    "SOLVER.AMP.ENABLED": False,
    "TEST.REPORT": False,
}


class Losses(HookBase):
    """Records the losses of every step on the main process, which are means over all processes."""

    def __init__(self) -> None:
        self.found: list[dict[str, float]] = []

    def after_step(self) -> None:
        """Record the losses of this step."""
        latest = self.trainer.storage.latest()
        self.found.append({name: latest[name][0] for name in ("loss_cls", "loss_box_reg")})


def main(file: Path, steps: int, *opts: str) -> None:
    """Train, and write the losses, the norm of the final weights and the loss normaliser to a JSON file."""
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
        comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    options = {**OPTIONS, "SOLVER.MAX_ITER": steps, "OUTPUT_DIR": str(file.with_suffix(""))}
    words = [word for pair in options.items() for word in pair]
    cfg = load_config(ROOT / "configs/digits/quickstart.yaml", [*words, *opts])
    seed_all_rng(1)
    trainer = RetinaTrainer(cfg)
    losses = Losses()
    trainer.register_hooks([losses])
    trainer.train()
    if comm.is_main_process():
        weights = float(torch.cat([p.detach().flatten() for p in trainer.detector.parameters()]).norm())
        normalizer = float(trainer.detector.loss_normalizer)
        file.write_text(json.dumps({"losses": losses.found, "weights": weights, "normalizer": normalizer}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
