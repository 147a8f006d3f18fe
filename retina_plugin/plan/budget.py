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

from retina_plugin.data.batching import padded_pixels
from retina_plugin.data.mapper import build_mapper
from retina_plugin.data.strangers_files import ImageError
from retina_plugin.hardware import peak_memory_mib

STEPS = 3
"""Steps that are measured, after one that is not."""

OVERHEAD = 1.1
"""Time of a training step in relation to the network alone: optimizer, averaging, logging."""

EVALUATIONS_SHARE = 0.08
"""Share of the time that evaluations during the training may take."""

LOADED = 32
"""Images that are loaded to measure how long that takes and how large they are."""

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
        train: seconds per image of a training step, with padding but without loading.
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
    records: Sequence[dict],
    *,
    height: int,
    width: int,
    objects: int,
    build: Callable[[CfgNode], torch.nn.Module] = build_model,
) -> Speed:
    """Train a few steps on random images, load some real ones, and return what a training costs here.

    Args:
        cfg: a resolved config.
        records: of the training images.
        height: of the network input of a typical image, pixels.
        width: of the network input of a typical image, pixels.
        objects: objects of an image.
        build: builds the model; that of the trainer freezes what MODEL.FREEZE says.
    """
    batch = max(1, cfg.SOLVER.IMS_PER_BATCH // cfg.SOLVER.ACCUMULATE)
    states = torch.get_rng_state(), np.random.get_state()
    samples = [_random_image(height, width, objects, cfg.MODEL.RETINANET.NUM_CLASSES) for _ in range(batch)]
    train, test, memory = _timed(build(cfg), samples)
    seconds, sizes = _loaded(cfg, records)
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    padding = padded_pixels(sizes, batch) / (height * width) if sizes else 1.0
    train *= padding
    if cfg.MODEL.DEVICE == "cpu":  # the processes that load take their share of the cores
        loading = seconds / torch.get_num_threads()
    else:
        loading = max(0.0, seconds / max(1, cfg.DATALOADER.NUM_WORKERS) - train)
    return Speed(train, test, round(memory * padding), loading)


def _timed(model: torch.nn.Module, samples: list[dict]) -> tuple[float, float, int]:
    """Train a few steps on the same batch, without an optimizer.

    Returns:
        Seconds per image of a training step, seconds of a prediction for one image, and bytes that a step takes.
    """
    is_cuda = model.device.type == "cuda"
    before = peak_memory_mib()
    times = []
    model.train()
    for _ in range(1 + STEPS):
        started = _now(is_cuda)
        sum(model(samples).values()).backward()
        for parameter in model.parameters():
            parameter.grad = None
        times.append((_now(is_cuda) - started) / len(samples))
    memory = int((peak_memory_mib() - before) * MIB)
    model.eval()
    tests = []
    with torch.no_grad():
        for _ in range(2):
            started = _now(is_cuda)
            model(samples[:1])
            tests.append(_now(is_cuda) - started)
    return float(np.median(times[1:])), min(tests), max(0, memory)


def _loaded(cfg: CfgNode, records: Sequence[dict]) -> tuple[float, list[tuple[int, int]]]:
    """Load some training images and return the seconds of one process per image, and their sizes.

    Args:
        cfg: a resolved config; its training mapper is used.
        records: of the training images.

    Returns:
        The median time, and the (height, width) of the inputs, pixels; 0 and none if no image can be used.
    """
    mapper, times, sizes = build_mapper(cfg, is_train=True), [], []
    for i in np.linspace(0, len(records) - 1, min(len(records), LOADED)).round().astype(int):
        started = time.perf_counter()
        with contextlib.suppress(ImageError, SizeMismatchError):  # named by the loader, which leaves it out
            height, width = mapper(records[i])["image"].shape[-2:]
            sizes.append((height, width))
            times.append(time.perf_counter() - started)
    return (float(np.median(times)) if times else 0.0), sizes


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
