"""What a training may cost, and what a step of it costs on this machine."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from detectron2.config import CfgNode
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from retina_plugin.data.mapper import build_mapper
from retina_plugin.data.strangers_files import ImageError
from retina_plugin.hardware import peak_memory_mib

STEPS = 3
"""Steps that are measured, after one that is not."""

OVERHEAD = 1.2
"""Time of a training step in relation to the network alone, on images of one size: padding, optimizer, averaging,
logging."""

EVALUATIONS_SHARE = 0.08
"""Share of the time that evaluations during the training may take."""

LOADED = 8
"""Images that are loaded to measure how long that takes."""

START_SECONDS = 15.0
"""Time for starting, reading the data and writing checkpoints."""

MIB = 2**20


@dataclass(frozen=True)
class Budget:
    """What a training may cost.

    Args:
        minutes: of the whole run; the number of epochs follows from the measured speed. None: the epochs follow from
            the data, or are those that the user set.
        memory: bytes that a step may take; None: as much as there is.
    """

    minutes: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Speed:
    """What was measured on this machine.

    Args:
        train: seconds per image of a training step, without loading.
        test: seconds per image of an evaluation, without tiles.
        memory: bytes that a training step takes.
        loading: seconds per image that loading adds to a training step.
    """

    train: float
    test: float
    memory: int
    loading: float = 0.0

    @property
    def step(self) -> float:
        """Return the seconds per image of a training step with everything around it."""
        return self.train * OVERHEAD + self.loading

    def times(self, factor: float) -> "Speed":
        """Return the cost of images with ``factor`` times the pixels."""
        return Speed(self.train * factor, self.test * factor, round(self.memory * factor), self.loading)

    def images_in(self, minutes: float, *, evaluated: int) -> float:
        """Return how many training images fit into a time that includes the evaluations.

        Args:
            minutes: of the whole run.
            evaluated: images, or tiles of images, that are evaluated at the end.
        """
        left = 60 * minutes - START_SECONDS - evaluated * self.test
        return max(0.0, left) * (1 - EVALUATIONS_SHARE) / self.step


def measure(
    cfg: CfgNode,
    *,
    height: int,
    width: int,
    objects: int,
    build: Callable[[CfgNode], torch.nn.Module] = build_model,
) -> Speed:
    """Train a few steps on random images and return what one costs.

    Args:
        cfg: a resolved config; SOLVER.IMS_PER_BATCH / SOLVER.ACCUMULATE images are trained on at once.
        height: of the network input, pixels.
        width: of the network input, pixels.
        objects: objects of an image.
        build: builds the model; that of the trainer freezes what MODEL.FREEZE says.
    """
    batch = max(1, cfg.SOLVER.IMS_PER_BATCH // cfg.SOLVER.ACCUMULATE)
    states = torch.get_rng_state(), np.random.get_state()
    model = build(cfg)
    images = [_random_image(height, width, objects, cfg.MODEL.RETINANET.NUM_CLASSES) for _ in range(batch)]
    is_cuda = model.device.type == "cuda"
    before = peak_memory_mib()
    times = []
    model.train()
    for _ in range(1 + STEPS):
        started = _now(is_cuda)
        sum(model(images).values()).backward()
        for parameter in model.parameters():
            parameter.grad = None
        times.append((_now(is_cuda) - started) / batch)
    memory = int((peak_memory_mib() - before) * MIB)
    model.eval()
    tests = []
    with torch.no_grad():
        for _ in range(2):
            started = _now(is_cuda)
            model(images[:1])
            tests.append(_now(is_cuda) - started)
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    return Speed(float(np.median(times[1:])), min(tests), max(0, memory))


def time_to_load(cfg: CfgNode, records: Sequence[dict]) -> float:
    """Return the seconds of one process per training image.

    Args:
        cfg: a resolved config; its training mapper is used.
        records: of the training images.
    """
    mapper, times = build_mapper(cfg, is_train=True), []
    state = np.random.get_state()
    for i in np.linspace(0, len(records) - 1, min(len(records), LOADED)).round().astype(int):
        started = time.perf_counter()
        with contextlib.suppress(ImageError, SizeMismatchError):  # named by the loader, which leaves it out
            mapper(records[i])
            times.append(time.perf_counter() - started)
    np.random.set_state(state)
    return float(np.median(times)) if times else 0.0


def _random_image(height: int, width: int, objects: int, classes: int) -> dict:
    """Return a training sample of noise."""
    corner = torch.rand(objects, 2) * torch.tensor([width * 0.7, height * 0.7])
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(torch.cat([corner, corner + torch.rand(objects, 2) * 0.2 * min(height, width) + 2], 1))
    instances.gt_classes = torch.randint(0, classes, (objects,))
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return {"image": image, "instances": instances, "height": height, "width": width}


def _now(is_cuda: bool) -> float:
    """Return the time in seconds, after the GPU has finished."""
    if is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()
