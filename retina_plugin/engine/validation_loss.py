"""Losses on data that the model is not trained on."""

from collections.abc import Iterable
from typing import Any

import torch

from detectron2.utils import comm
from detectron2.utils.events import EventStorage


@torch.no_grad()
def validation_losses(model: Any, loader: Iterable[list[dict]]) -> dict[str, float]:
    """Compute the losses over a whole dataset.

    In training the sum over a batch is divided by a moving average of the number of foreground anchors. Here the sum
    over the dataset is divided by its total number of foreground anchors, so that the two are comparable. A loss that
    is itself a mean is averaged over images.

    Args:
        model: a ``RetinaPluginNet`` without a wrapper. It runs in evaluation mode and is left as it was.
        loader: yields batches with "instances"; each image once over all processes.

    Returns:
        Losses by name, with "total_loss"; the same on all processes.
    """
    sums: dict[str, float] = {}
    images, foreground = 0, 0
    means = {"loss_cls"} if getattr(model.cls_loss, "normalized", False) else set()
    training = model.training
    model.eval()
    try:
        with EventStorage():  # keeps what the model logs out of the training's metrics
            for batch in loader:
                predictions = model.predict(model.preprocess_image(batch))
                labels = model.label_inputs(predictions.anchors, batch)
                for name, loss in model.losses(predictions, labels).items():
                    weight = len(batch) if name in means else max(labels.num_foreground, 1)
                    sums[name] = sums.get(name, 0.0) + float(loss) * weight
                images, foreground = images + len(batch), foreground + labels.num_foreground
    finally:
        model.train(training)
    parts = comm.all_gather((sums, images, foreground))
    images, foreground = (max(1, sum(part[i] for part in parts)) for i in (1, 2))
    names = sorted({name for part, *_ in parts for name in part})
    losses = {
        name: sum(part.get(name, 0.0) for part, *_ in parts) / (images if name in means else foreground)
        for name in names
    }
    return {**losses, "total_loss": sum(losses.values())}
