"""Count the foreground anchors of each training image.

python tools/foreground_anchors.py CONFIG [KEY VALUE ...]
"""

import sys

import numpy as np
import torch

from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model

from retina_plugin import load_config
from retina_plugin.data.mapper import build_mapper


def counts(config: str, *opts: str) -> np.ndarray:
    """Return the number of foreground anchors of each image in DATASETS.TRAIN, as the config's assigner labels them."""
    cfg = load_config(config, ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "none", *opts])
    model, mapper = build_model(cfg), build_mapper(cfg, is_train=True)
    found = []
    for name in cfg.DATASETS.TRAIN:
        for record in DatasetCatalog.get(name):
            inputs = [mapper(dict(record))]
            size = model.preprocess_image(inputs).tensor.shape[-2:]
            features = [
                torch.zeros(1, 1, -(-size[0] // stride), -(-size[1] // stride))
                for stride in model.anchor_generator.strides
            ]
            found.append(model.label_inputs(model.anchor_generator(features), inputs).num_foreground)
    return np.array(found)


if __name__ == "__main__":
    found = counts(*sys.argv[1:])
    above = ", ".join(f"{int((found > limit).sum())} with more than {limit}" for limit in (32, 64, 128))
    print(f"{len(found)} images: mean {found.mean():.1f}, most {found.max()}; {above}")
