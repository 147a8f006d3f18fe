"""The focal loss in numbers and pictures: the class imbalance example, and figures 1 and 4 of the paper."""

import math
from collections.abc import Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from retina_plugin.modeling.losses.dense import focal_terms
from retina_plugin.modeling.meta_arch import RetinaPluginNet

GAMMAS = (0.0, 0.5, 1.0, 2.0, 5.0)
"""Values of γ in figure 1; γ = 0 is the cross entropy."""


def focal_loss(p_t: Tensor, gamma: float) -> Tensor:
    """Return -(1 - p_t)^γ log(p_t) for probabilities p_t in (0, 1) of the correct class, any shape.

    Source: Lin et al. 2017, equation 4.
    """
    return focal_terms(-torch.special.logit(p_t), gamma)[0]


def imbalance_example(
    foreground: float = 0.8, background: float = 0.01, num_background: int = 100, gamma: float = 2.0
) -> str:
    """Compare cross entropy and focal loss for one foreground and many easy background examples, in base-10 logarithms.

    Args:
        foreground: score of the one foreground example.
        background: score of every background example.
        num_background: number of background examples.
        gamma: γ of the focal loss; α is not used.

    Returns:
        A Markdown table.
    """
    p_t = torch.tensor([foreground, 1 - background], dtype=torch.float64)
    counts = torch.tensor([1.0, num_background], dtype=torch.float64)
    columns = f"1 foreground at {foreground:g} | {num_background} backgrounds at {background:g}"
    lines = [f"| | {columns} | sum | share of the foreground |", "|---|---|---|---|---|"]
    for name, g in (("cross entropy", 0.0), (f"focal loss, γ = {gamma:g}", gamma)):
        one, many = (focal_loss(p_t, g) * counts / math.log(10)).tolist()
        lines.append(f"| {name} | {one:.8f} | {many:.8f} | {one + many:.8f} | {100 * one / (one + many):.1f} % |")
    return "\n".join(lines)


def draw_figure_1(file: Path) -> None:
    """Draw the loss over p_t for several γ (Lin et al. 2017, figure 1)."""
    p_t = torch.linspace(0.005, 0.999, 500, dtype=torch.float64)
    figure, axes = plt.subplots(figsize=(6, 4.2), layout="constrained")
    for gamma in GAMMAS:
        axes.plot(p_t, focal_loss(p_t, gamma), label=f"γ = {gamma:g}" + (" (cross entropy)" if gamma == 0 else ""))
    axes.axvspan(0.6, 1.0, color="0.93", zorder=0)
    axes.text(0.8, 4.2, "well-classified", ha="center")
    axes.set_xlabel("probability of the right answer, $p_t$")
    axes.set_ylabel("loss, $-(1 - p_t)^\\gamma \\log(p_t)$")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 5)
    axes.legend()
    figure.savefig(file, dpi=120)
    plt.close(figure)


@torch.no_grad()
def collect_p_t(
    model: RetinaPluginNet, batches: Iterable[list[dict]], *, background_per_image: int = 20_000
) -> tuple[Tensor, Tensor]:
    """Collect the probabilities that a detector assigns to the correct class.

    Args:
        model: the detector; its weights and mode are left unchanged.
        batches: lists of dataset dicts with "image" and "instances".
        background_per_image: background logits sampled from each image, which has millions.

    Returns:
        p_t (F,) of the labelled classes of foreground anchors, and (B,) of background, both in [0, 1].
    """
    training = model.training
    foreground: list[Tensor] = []
    background: list[Tensor] = []
    model.eval()
    try:
        for batch in batches:
            predictions = model.predict(model.preprocess_image(batch))
            labels = model.label_inputs(predictions.anchors, batch)
            logits = torch.cat(predictions.logits, dim=1).float()  # (N, R, K)
            images, anchors = labels.foreground  # (P,) each
            foreground.append(logits[images, anchors, labels.gt_labels[images, anchors]].sigmoid())
            for x, y in zip(logits, labels.gt_labels, strict=True):
                p_t = (-x[y == x.shape[1]]).sigmoid().flatten()
                if len(p_t):
                    background.append(p_t[torch.randint(len(p_t), (background_per_image,))])
    finally:
        model.train(training)
    return torch.cat(foreground), torch.cat(background)


def cumulative_share(losses: Tensor) -> np.ndarray:
    """Return the share of the total loss that the i easiest examples contribute, for i = 1..N: (N,), ascending to 1.

    Args:
        losses: (N,) losses, >= 0.
    """
    ordered = losses.double().sort().values
    return (ordered.cumsum(0) / ordered.sum().clamp(min=1e-300)).numpy()


def draw_figure_4(
    foreground: Tensor, background: Tensor, file: Path, gammas: Iterable[float] = (0.0, 0.5, 1.0, 2.0)
) -> dict[float, tuple[float, float]]:
    """Draw cumulative distributions of the normalised loss over the examples, easy to hard (Lin et al. 2017, figure 4).

    Args:
        foreground: (F,) p_t of foreground, from :func:`collect_p_t`.
        background: (B,) p_t of background.
        file: the picture to write.
        gammas: γ of the curves.

    Returns:
        For each γ the share of the loss that the hardest tenth contributes, for foreground and for background.
    """
    figure, both = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
    hardest: dict[float, list[float]] = {}
    for axes, title, p_t in zip(both, ("foreground", "background"), (foreground, background), strict=True):
        for gamma in gammas:
            share = cumulative_share(focal_loss(p_t.clamp(1e-7, 1 - 1e-7).double(), gamma))
            axes.plot(np.linspace(0, 1, len(share)), share, label=f"γ = {gamma:g}")
            hardest.setdefault(gamma, []).append(float(1 - share[max(0, int(0.9 * len(share)) - 1)]))
        axes.set_title(f"{title} ({len(p_t):,} examples)")
        axes.set_xlabel("fraction of the examples, easy to hard")
    both[0].set_ylabel("cumulative normalised loss")
    both[0].legend()
    figure.savefig(file, dpi=120)
    plt.close(figure)
    return {gamma: (shares[0], shares[1]) for gamma, shares in hardest.items()}
