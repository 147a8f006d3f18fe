"""What several tests share: paths, options of small models, random inputs."""

import shutil
import subprocess
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
BASE = ROOT / "configs/Base-RetinaNet.yaml"
DIGITS_CONFIG = ROOT / "configs/digits/quickstart.yaml"
SAMPLE = ROOT / "tests/data/sample"
"""Two real photographs with boxes in four formats, see its README."""

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

TINY = [
    "MODEL.DEVICE", "cpu", "MODEL.BACKBONE.FREEZE_AT", 0, "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.NORM", "BN",
    "MODEL.FPN.OUT_CHANNELS", 16, "MODEL.RETINANET.NUM_CONVS", 1, "SOLVER.AMP.ENABLED", False,
    "MODEL.RETINANET.NUM_CLASSES", 3, "DATALOADER.NUM_WORKERS", 0,
]  # fmt: skip
"""Options that make any config small and runnable without data."""


SMALL = [*TINY[:-4], "MODEL.RETINANET.NUM_CLASSES", 10, "DATALOADER.NUM_WORKERS", 0,
         "SOLVER.IMS_PER_BATCH", 2, "SOLVER.REFERENCE_BATCH_SIZE", 0, "SOLVER.AMP.ENABLED", False]  # fmt: skip
"""Options that make training on the digits small."""


def tiny_cfg(*opts, base=BASE):
    """The base config, small, for plain RGB noise."""
    from retina_plugin import load_config

    return load_config(base, [*TINY, *opts])


def make_inputs(sizes, boxes, classes, seed=0):
    """Detectron2's dataset dicts of random images.

    Args:
        sizes: N of (height, width).
        boxes: N lists of XYXY boxes.
        classes: N lists of labels.
        seed: of the images.
    """
    from detectron2.structures import Boxes, Instances

    generator = torch.Generator().manual_seed(seed)
    inputs = []
    for size, box, label in zip(sizes, boxes, classes, strict=True):
        instances = Instances(size)
        instances.gt_boxes = Boxes(torch.tensor(box, dtype=torch.float32).reshape(-1, 4))
        instances.gt_classes = torch.tensor(label, dtype=torch.int64)
        image = torch.randint(0, 256, (3, *size), generator=generator).to(torch.uint8)
        inputs.append({"image": image, "instances": instances, "height": size[0], "width": size[1]})
    return inputs


def screenshot(page, file, height=1200, width=1150):
    """A picture of a page in a headless browser."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    sizes = [f"--user-data-dir={page.parent / 'browser'}", f"--window-size={width},{height}", f"--screenshot={file}"]
    subprocess.run([CHROMIUM, *flags, *sizes, page.resolve().as_uri()], capture_output=True, timeout=120, check=True)


def read_source(kind, root, source, classes, *, look=False):
    """One source of a card, read: a LoadResult; without ``look`` no image file is opened that need not be."""
    from retina_plugin.data.card import DatasetCard
    from retina_plugin.data.load import load_split

    return load_split(DatasetCard("t", kind, classes, {"all": source}, str(root), "CC0", "test"), "all", look=look)
