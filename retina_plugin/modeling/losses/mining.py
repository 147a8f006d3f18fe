"""Classification losses that select or weight examples by how hard they are."""

import torch
from torch import Tensor
from torchvision.ops import nms

from retina_plugin.modeling.losses.classification import CLS_LOSS_REGISTRY
from retina_plugin.modeling.losses.dense import (
    ClassTargets,
    chunk_rows,
    cross_entropy_terms,
    dense_loss_sum,
    loss_of_each_anchor,
)
from retina_plugin.registry import reads


class _MinedCrossEntropy:
    """Mean cross entropy of the anchors that ``choose`` returns; the others are ignored."""

    normalized = True

    def choose(self, losses: Tensor, image: int, targets: ClassTargets) -> Tensor:
        """Return the indices (S,) of the anchors of one image to train on, given losses (R,), 0 where ignored."""
        raise NotImplementedError

    def __call__(self, pred_logits: list[Tensor], targets: ClassTargets) -> Tensor:
        """Map logits L x (N, Ri, K) and targets to the float32 mean () over the chosen anchors."""
        losses = loss_of_each_anchor(pred_logits, targets.labels, cross_entropy_terms)  # (N, R)
        labels, count = torch.full_like(targets.labels, -1), 0
        for i in range(len(losses)):
            chosen = self.choose(losses[i], i, targets)
            labels[i, chosen] = targets.labels[i, chosen]
            count += len(chosen)
        return dense_loss_sum(pred_logits, labels, cross_entropy_terms) / max(count, 1)


@CLS_LOSS_REGISTRY.register("ohem")
@reads("MODEL.CLS_LOSS.OHEM_BATCH_SIZE", "MODEL.CLS_LOSS.OHEM_NMS_THRESH")
class OHEMLoss(_MinedCrossEntropy):
    """Online hard example mining: per image, the highest-loss anchors that survive NMS by loss.

    Args:
        ohem_batch_size: anchors per image.
        ohem_nms_thresh: IoU of predicted boxes above which the easier of two anchors is dropped; 1 keeps all.

    Source: Shrivastava et al. 2016, *Training Region-based Object Detectors with Online Hard Example
    Mining*, section 4.2, as compared in Lin et al. 2017, table 1d.
    """

    smallest_batch = 1

    def __init__(self, *, ohem_batch_size: int, ohem_nms_thresh: float) -> None:
        if ohem_batch_size < self.smallest_batch or not 0 < ohem_nms_thresh <= 1:
            raise ValueError(
                f"MODEL.CLS_LOSS.OHEM_BATCH_SIZE must be at least {self.smallest_batch} and OHEM_NMS_THRESH in (0, 1]; "
                f"got {ohem_batch_size} and {ohem_nms_thresh}"
            )
        self.batch_size, self.nms_thresh = ohem_batch_size, ohem_nms_thresh

    def select(self, survivors: Tensor, foreground: Tensor, *, foreground_left: bool, complete: bool) -> Tensor | None:
        """Return the minibatch of one image, or None if more survivors are needed to determine it.

        Args:
            survivors: (S,) indices of the anchors kept by NMS so far, hardest first.
            foreground: (S,) bool, whether they have a class.
            foreground_left: whether there are easier foreground anchors that NMS has not seen yet.
            complete: whether NMS has seen every anchor.

        Returns:
            Indices (B,) of at most ``batch_size`` anchors.
        """
        return survivors[: self.batch_size] if complete or len(survivors) >= self.batch_size else None

    def choose(self, losses: Tensor, image: int, targets: ClassTargets) -> Tensor:
        """Return the minibatch (B,) of one image from the losses (R,).

        NMS runs on the hardest few anchors, and on more only if these do not fill the minibatch.
        """
        image_idxs, anchor_idxs = targets.foreground_idxs()
        foreground = torch.zeros_like(losses, dtype=torch.bool).index_fill_(0, anchor_idxs[image_idxs == image], True)
        count, num_foreground = int((targets.labels[image] >= 0).sum()), int(foreground.sum())
        hardness = losses.masked_fill(targets.labels[image] < 0, -1)
        n = 4 * self.batch_size
        while True:
            values, anchors = hardness.topk(min(n, count))
            left = num_foreground > int(foreground[anchors].sum())
            if self.nms_thresh < 1:
                # Which of the hardest n are kept does not depend on the others.
                boxes = targets.decoded(torch.full_like(anchors, image), anchors)  # (n, 4)
                anchors = anchors[nms(boxes, values, self.nms_thresh)]
            chosen = self.select(anchors, foreground[anchors], foreground_left=left, complete=n >= count)
            if chosen is not None:
                return chosen
            n *= 4


@CLS_LOSS_REGISTRY.register("ohem_1to3")
@reads("MODEL.CLS_LOSS.OHEM_BATCH_SIZE", "MODEL.CLS_LOSS.OHEM_NMS_THRESH")
class OHEM1To3Loss(OHEMLoss):
    """OHEM whose minibatch has three background anchors per foreground anchor.

    After NMS by loss over all anchors, the hardest foreground anchors are taken, at most a quarter of
    ``ohem_batch_size``, and then the hardest background anchors, three times as many. An image without foreground
    contributes three background anchors.

    Source: Lin et al. 2017, section 5.1, "Online Hard Example Mining", and table 1d. The paper does not
    specify the case of an image with less foreground than a quarter of the minibatch; here the ratio holds and the
    minibatch is smaller.
    """

    smallest_batch = 4

    def select(self, survivors: Tensor, foreground: Tensor, *, foreground_left: bool, complete: bool) -> Tensor | None:
        """Return the minibatch (B,) of one image from its survivors (S,), see :class:`OHEMLoss`."""
        most = self.batch_size // 4
        positives = survivors[foreground][:most]
        if len(positives) < most and foreground_left:
            return None
        wanted = 3 * max(1, len(positives))
        negatives = survivors[~foreground][:wanted]
        return torch.cat([positives, negatives]) if complete or len(negatives) == wanted else None


@CLS_LOSS_REGISTRY.register("ssd_1to3")
@reads()
class SSDHardNegativeLoss(_MinedCrossEntropy):
    """Cross entropy of all foreground anchors and the hardest background anchors, three times as many.

    There is no NMS and no batch size. An image without objects contributes three background anchors.

    Source: Liu et al. 2016, *SSD*, section 2.2, "Hard negative mining".
    """

    def choose(self, losses: Tensor, image: int, targets: ClassTargets) -> Tensor:
        """Return the indices (S,) of all foreground anchors, and of the background with the highest losses (R,)."""
        image_idxs, anchor_idxs = targets.foreground_idxs()
        foreground = anchor_idxs[image_idxs == image]
        hardness = losses.masked_fill(targets.labels[image] < 0, -1).index_fill(0, foreground, -1)
        _, background = hardness.topk(min(3 * max(1, len(foreground)), int((hardness >= 0).sum())))
        return torch.cat([foreground, background])


@CLS_LOSS_REGISTRY.register("ghm")
@reads("MODEL.CLS_LOSS.GHM_BINS")
class GHMLoss:
    """Gradient harmonising: cross entropy, each logit weighted by 1 / the number of logits with a similar gradient.

    Args:
        ghm_bins: bins of the gradient norm |p - target| in 0..1.

    Source: Li et al. 2019, *Gradient Harmonized Single-stage Detector*, section 3.3 (unit regions), without
    the moving average over batches.
    """

    normalized = True

    def __init__(self, *, ghm_bins: int) -> None:
        if ghm_bins < 1:
            raise ValueError(f"MODEL.CLS_LOSS.GHM_BINS must be at least 1; got {ghm_bins}")
        self.bins = ghm_bins

    def _bin(self, x: Tensor) -> Tensor:
        """Return the bins of the gradient norms sigmoid(x) of background logits x, int64 in 0..bins-1."""
        return (x.sigmoid() * self.bins).long().clamp_(max=self.bins - 1)

    @torch.no_grad()
    def _counts(self, pred_logits: list[Tensor], labels: Tensor) -> Tensor:
        """Count the logits in each bin that are not ignored: (bins,) float32."""
        num_classes, counts = pred_logits[0].shape[-1], torch.zeros(self.bins, dtype=torch.int64, device=labels.device)
        for logits, y in zip(pred_logits, labels.split([x.shape[1] for x in pred_logits], dim=1), strict=True):
            flat, y = logits.reshape(-1, num_classes), y.reshape(-1)
            for x, valid in zip(flat.split(chunk_rows(flat)), (y >= 0).split(chunk_rows(flat)), strict=True):
                counts += torch.bincount(self._bin(x[valid].float()).flatten(), minlength=self.bins)
            foreground = ((y >= 0) & (y < num_classes)).nonzero().squeeze(1)
            x = flat[foreground, y[foreground]].float()
            counts += torch.bincount(self._bin(-x), minlength=self.bins)
            counts -= torch.bincount(self._bin(x), minlength=self.bins)
        return counts.float()

    def __call__(self, pred_logits: list[Tensor], targets: ClassTargets) -> Tensor:
        """Map logits L x (N, Ri, K) and targets to the float32 mean () over the non-empty bins."""
        counts = self._counts(pred_logits, targets.labels)
        weights = torch.where(counts > 0, 1 / counts.clamp(min=1), 0) / (counts > 0).sum().clamp(min=1)

        def terms(x: Tensor) -> tuple[Tensor, Tensor]:
            """Return the weighted cross entropy of background logits x (R, K), and its derivative."""
            loss, grad = cross_entropy_terms(x)
            weight = weights.to(x.dtype)[self._bin(x)]
            return loss * weight, grad * weight

        return dense_loss_sum(pred_logits, targets.labels, terms)
