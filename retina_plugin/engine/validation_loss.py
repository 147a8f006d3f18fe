"""The loss on data that is not trained on."""

from collections.abc import Iterable

import torch

from detectron2.utils import comm
from detectron2.utils.events import EventStorage


@torch.no_grad()
def validation_losses(model: torch.nn.Module, loader: Iterable[list[dict]]) -> dict[str, float]:
    """Losses over a whole dataset, by name, "total_loss" included; the same on all processes.

    In training a batch's sum is divided by a moving average of its foreground anchors; here the sum over the dataset is
    divided by all its foreground anchors (a loss that is a mean itself is averaged over images), so that both compare.

    Args:
        model: ``RetinaPluginNet``, not wrapped; it is left as it was. Its layers work as in inference.
        loader: yields batches with "instances", each image once over all processes.
    """
    sums: dict[str, float] = {}
    images, foreground = 0, 0
    means = {"loss_cls"} if getattr(model.cls_loss, "normalized", False) else set()
    training = model.training
    model.eval()
    try:
        with EventStorage():  # what the model logs is not of the training
            for batch in loader:
                predictions = model.predict(model.preprocess_image(batch))
                labels = model.label_inputs(predictions.anchors, batch)
                for name, loss in model.losses(predictions, labels).items():
                    sums[name] = sums.get(name, 0.0) + float(loss) * (
                        len(batch) if name in means else max(labels.num_foreground, 1)
                    )
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
