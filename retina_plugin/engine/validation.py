"""The loss on data that is not trained on."""

import contextlib
from collections.abc import Iterable, Iterator

import torch

from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from retina_plugin.modeling.meta_arch import NORMALIZER_MOMENTUM


@contextlib.contextmanager
def measuring_losses(model: torch.nn.Module) -> Iterator[None]:
    """Inside, the detector returns losses as in training, but its layers stay as in inference and its normaliser does not move.

    Args:
        model: ``RetinaPluginNet``, not wrapped.
    """
    training, normalizer = model.training, model.loss_normalizer.clone()
    model.eval()
    model.training = True  # this flag alone: normalisation and dropout below keep to inference
    try:
        yield
    finally:
        model.train(training)
        model.loss_normalizer.copy_(normalizer)


@torch.no_grad()
def validation_losses(model: torch.nn.Module, loader: Iterable[list[dict]]) -> dict[str, float]:
    """Losses over a whole dataset, by name, "total_loss" included; the same on all processes.

    In training a batch's sum is divided by a moving average of its foreground anchors; here the sum over the dataset is
    divided by all its foreground anchors (a loss that is a mean itself is averaged over images), so that both compare.

    Args:
        model: ``RetinaPluginNet``, not wrapped.
        loader: yields batches with "instances", each image once over all processes.
    """
    sums: dict[str, float] = {}
    images, foreground = 0, 0.0
    before = model.loss_normalizer.clone()
    means = {"loss_cls"} if model.cls_loss.normalized else set()
    with measuring_losses(model), EventStorage():  # what the model logs is not of the training
        for batch in loader:
            losses = model(batch)
            divisor = float(model.loss_normalizer)  # moved from `before` by a tenth towards the batch's foreground
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + float(loss) * (len(batch) if name in means else divisor)
            images, foreground = images + len(batch), foreground + (divisor - NORMALIZER_MOMENTUM * float(before)) / (1 - NORMALIZER_MOMENTUM)
            model.loss_normalizer.copy_(before)
    parts = comm.all_gather((sums, images, foreground))
    images, foreground = (max(1.0, sum(part[i] for part in parts)) for i in (1, 2))
    names = sorted({name for part, *_ in parts for name in part})
    losses = {name: sum(part.get(name, 0.0) for part, *_ in parts) / (images if name in means else foreground) for name in names}
    return {**losses, "total_loss": sum(losses.values())}
