"""RetinaNet as a Detectron2 meta-architecture: the steps of training and inference, each a method."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, detector_postprocess
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage, has_event_storage

from retina_plugin.modeling.assignment import Assigner, ignore_inside
from retina_plugin.modeling.compilation import compile_parts as compile_in_place
from retina_plugin.modeling.contracts import (
    box_width,
    check_anchors,
    check_features,
    check_head,
    check_labels,
    check_loss,
)
from retina_plugin.modeling.labels import AnchorLabels, LabelCheck, LabelError
from retina_plugin.modeling.losses import ClassTargets
from retina_plugin.modeling.parts import build_parts
from retina_plugin.modeling.postprocess import Predictions, detect
from retina_plugin.modeling.precision import autocast, resolve_precision
from retina_plugin.modeling.preprocess import batch_images, check_images
from retina_plugin.modeling.training_log import TrainingLog, is_due

NORMALIZER_START, NORMALIZER_MOMENTUM = 100.0, 0.9
"""The loss normaliser is a moving average of the foreground anchors per batch, as in Detectron2."""


@META_ARCH_REGISTRY.register()
class RetinaPluginNet(TrainingLog):
    """RetinaNet (Lin et al. 2017) with every part replaceable by name.

    In training it maps a list of Detectron2's dataset dicts ("image" (C, H, W), "instances" and, where there are
    crowds, "ignore_boxes" (G, 4)) to ``{"loss_cls": (), "loss_box_reg": ()}``; in evaluation to a list of
    ``{"instances": Instances}`` with ``pred_boxes``, ``scores``, ``pred_classes`` in pixels of ("height", "width").

    Each step is a method that can be called or overridden: :meth:`preprocess_image`, :meth:`predict`, then
    :meth:`label_anchors` and :meth:`losses` in training, :meth:`inference` otherwise.

    Parameter names equal those of Detectron2's ``RetinaNet``, so its checkpoints load unchanged; they only lack
    ``loss_normalizer``, which is a buffer here, so that it survives resuming.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    loss_normalizer: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: list[str],
        anchor_generator: nn.Module,
        assigner: Assigner,
        cls_loss: Callable[[list[Tensor], ClassTargets], Tensor],
        box_loss: Callable[[Tensor, Tensor, Tensor], Tensor],
        box2box_transform: Box2BoxTransform,
        num_classes: int,
        score_thresh_test: float,
        topk_candidates_test: int,
        nms_thresh_test: float,
        max_detections: int,
        clip_before_nms: bool = False,
        class_agnostic_nms: bool = False,
        soft_nms: str = "",
        soft_nms_sigma: float = 0.5,
        pixel_mean: list[float],
        pixel_std: list[float],
        channels_last: bool,
        precision: str,
        compile_parts: Sequence[str] = (),
        input_format: str = "BGR",
        vis_period: int = 0,
        details_period: int = 0,
    ) -> None:
        """Connect the parts; the arguments from ``score_thresh_test`` to ``soft_nms_sigma`` are those of ``detect``.

        Args:
            backbone: network with the pyramid; yields ``head_in_features``.
            head: see ``HEAD_REGISTRY``.
            head_in_features: names of the L maps, finest first.
            anchor_generator: maps L feature maps to L ``Boxes`` of (Ri, 4).
            assigner: see ``ASSIGNER_REGISTRY``.
            cls_loss: see ``CLS_LOSS_REGISTRY``.
            box_loss: see ``BOX_LOSS_REGISTRY``.
            box2box_transform: encoding of the deltas.
            num_classes: K, without background.
            score_thresh_test: minimum score of a detection, exclusive.
            topk_candidates_test: most candidates per level.
            nms_thresh_test: IoU threshold of NMS.
            max_detections: most detections per image.
            clip_before_nms: clip boxes to the image before NMS rather than after it.
            class_agnostic_nms: compare boxes of different classes as well.
            soft_nms: "linear", "gaussian" or "".
            soft_nms_sigma: for "gaussian".
            pixel_mean: mean per channel, of the 0..255 range, in the order of INPUT.FORMAT.
            pixel_std: standard deviation per channel, the same.
            channels_last: keep images in that memory format, which propagates through the convolutions.
            precision: of the convolutions, see :func:`retina_plugin.modeling.precision.resolve_precision`.
            compile_parts: see :func:`retina_plugin.modeling.compilation.compile_parts`.
            input_format: INPUT.FORMAT, for pictures.
            vis_period: iterations between pictures of a training image with its boxes and predictions; 0: none.
            details_period: iterations between logged losses of each level and class; 0: none.
        """
        super().__init__()
        self.backbone, self.head = backbone, head
        self.head_in_features = list(head_in_features)
        self.anchor_generator = anchor_generator
        self.assigner = assigner
        self.cls_loss, self.box_loss = cls_loss, box_loss
        self.box2box_transform = box2box_transform
        self.num_classes = num_classes
        self.score_thresh_test, self.topk_candidates_test = score_thresh_test, topk_candidates_test
        self.nms_thresh_test, self.clip_before_nms = nms_thresh_test, clip_before_nms
        self.class_agnostic_nms, self.soft_nms, self.soft_nms_sigma = class_agnostic_nms, soft_nms, soft_nms_sigma
        self.max_detections = max_detections
        self.precision = precision
        self.input_format, self.vis_period, self.details_period = input_format, vis_period, details_period
        self._unseen = self._unseen_losses = True  # contracts are checked in the first step
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            per_channel = torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)  # (C, 1, 1)
            self.register_buffer(name, per_channel, persistent=False)
        self.register_buffer("loss_normalizer", torch.tensor(NORMALIZER_START))
        self.to(memory_format=self.memory_format)
        compile_in_place(self, compile_parts)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Return the constructor's arguments, see :func:`retina_plugin.modeling.parts.build_parts`."""
        return build_parts(cfg)

    @property
    def device(self) -> torch.device:
        """Device of the model, to which inputs are moved."""
        return self.pixel_mean.device

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        """Dtype of the convolutions on the current device; None for float32."""
        return resolve_precision(self.precision, self.device)

    def forward(self, batched_inputs: list[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Instances]]:
        """Return losses in training and detections in evaluation, see the class.

        Args:
            batched_inputs: N dicts with "image" (C, H, W), 0..255, in INPUT.FORMAT.

        Raises:
            ValueError: if an "image" is not one; in training, if an input has no "instances" or a label is not a class.
        """
        if self.training and (without := [i for i, x in enumerate(batched_inputs) if "instances" not in x]):
            raise ValueError(f"training needs 'instances' in every input; inputs {without} have none")
        images = self.preprocess_image(batched_inputs)
        predictions = self.predict(images)
        if not self.training:
            return self.inference(*predictions, images, batched_inputs)
        if is_due(self.vis_period):
            self.visualize_training(*predictions, images, batched_inputs)
        return self.losses(predictions, self.label_inputs(predictions.anchors, batched_inputs))

    def preprocess_image(self, batched_inputs: list[dict[str, Any]]) -> ImageList:
        """Normalise images, pad them to the pyramid's divisor and batch them: N x (C, Hi, Wi) to (N, C, H, W).

        Raises:
            ValueError: if an "image" is not a tensor (C, H, W) with the channels of MODEL.PIXEL_MEAN.
        """
        check_images(batched_inputs, channels=len(self.pixel_mean))
        return batch_images(
            [x["image"].to(self.device, non_blocking=True) for x in batched_inputs],
            self.pixel_mean,
            self.pixel_std,
            divisor=self.backbone.size_divisibility,
            square_size=self.backbone.padding_constraints.get("square_size", 0),
            memory_format=self.memory_format,
        )

    def predict(self, images: ImageList) -> Predictions:
        """Compute anchors, logits and deltas for a batch from :meth:`preprocess_image`."""
        checked = self._unseen and not torch.jit.is_tracing()
        with autocast(self.device, self.autocast_dtype):
            found = self.backbone(images.tensor)
            if checked:
                slot, shapes = f"MODEL.FPN.NAME (through {type(self.backbone).__name__})", self.backbone.output_shape()
                check_features(self.backbone, found, self.head_in_features, shapes, images.tensor, slot=slot)
            features = [found[name] for name in self.head_in_features]
            outputs = self.head(features)
        anchors = self.anchor_generator(features)
        if checked:
            self._check_outputs(outputs, anchors, features)
        logits, deltas = outputs
        # The convolutions write channels last, so these are views; in another memory format they are copies.
        logits = [permute_to_N_HWA_K(x, self.num_classes) for x in logits]  # L x (N, Ri, K)
        deltas = [permute_to_N_HWA_K(x, box_width(self.head)) for x in deltas]  # L x (N, Ri, 4 or, in training, more)
        return Predictions(anchors, logits, deltas)

    def _check_outputs(self, outputs: object, anchors: object, features: list[Tensor]) -> None:
        """Check the contracts of head and anchor generator; in evaluation this ends the checks."""
        count, classes = cast("list[int]", self.anchor_generator.num_anchors)[0], self.num_classes
        slot = "MODEL.RETINANET.HEAD_NAME"
        check_head(self.head, outputs, features, num_anchors=count, num_classes=classes, slot=slot)
        check_anchors(self.anchor_generator, anchors, features, num_anchors=count, slot="MODEL.ANCHOR_GENERATOR.NAME")
        if not self.training:
            self._unseen = False

    @torch.no_grad()
    def label_anchors(self, anchors: list[Boxes], gt_instances: list[Instances]) -> AnchorLabels:
        """Label all anchors of a batch, and match foreground anchors with boxes.

        Args:
            anchors: L ``Boxes`` of (Ri, 4).
            gt_instances: N ``Instances`` with ``gt_boxes`` (Mi, 4) and ``gt_classes`` (Mi,), on any device.

        Raises:
            LabelError: if a label is not in 0..K-1; a ValueError.
        """
        check = LabelCheck(gt_instances, self.num_classes)
        counts = [len(gt) for gt in gt_instances]
        # One copy to the device for the boxes of all images, one for their classes.
        gt_boxes = torch.cat([gt.gt_boxes.tensor for gt in gt_instances]).to(self.device, non_blocking=True)  # (M, 4)
        gt_classes = torch.cat([gt.gt_classes for gt in gt_instances]).to(self.device, non_blocking=True)  # (M,)
        levels = [x.tensor for x in anchors]
        found = self.assigner(levels, list(gt_boxes.split(counts)), list(gt_classes.split(counts)), self.num_classes)
        if self._unseen_losses:
            sizes = {"num_images": len(counts), "num_anchors": sum(map(len, anchors)), "num_boxes": len(gt_boxes)}
            check_labels(self.assigner, found, num_classes=self.num_classes, slot="MODEL.RETINANET.ASSIGNER", **sizes)
        gt_labels, matched_idxs = found  # (N, R) each
        has_class = (gt_labels >= 0) & (gt_labels < self.num_classes)
        image_idxs, anchor_idxs = has_class.nonzero(as_tuple=True)  # (P,) each; synchronises with the GPU
        check.finish()
        return AnchorLabels(gt_labels, (image_idxs, anchor_idxs), gt_boxes[matched_idxs[image_idxs, anchor_idxs]])

    @torch.no_grad()
    def label_inputs(self, anchors: list[Boxes], batched_inputs: list[dict[str, Any]]) -> AnchorLabels:
        """Apply :meth:`label_anchors` to dataset dicts, and ignore background in their "ignore_boxes".

        Args:
            anchors: L ``Boxes`` of (Ri, 4).
            batched_inputs: N dicts with "instances" and optionally "ignore_boxes" (G, 4), unlabelled regions.

        Raises:
            LabelError: if a label is not in 0..K-1; names the file.
        """
        try:
            labels = self.label_anchors(anchors, [x["instances"] for x in batched_inputs])
        except LabelError as error:
            file = batched_inputs[error.image].get("file_name")
            raise LabelError(error.image, error.wrong, error.num_classes, file) from None
        for gt_labels, inputs in zip(labels.gt_labels, batched_inputs, strict=True):
            if (regions := inputs.get("ignore_boxes")) is not None:
                regions = regions.to(self.device, non_blocking=True)
                ignore_inside(gt_labels, Boxes.cat(anchors).tensor, regions, self.num_classes)
        return labels

    def losses(self, predictions: Predictions, labels: AnchorLabels) -> dict[str, Tensor]:
        """Compute both losses, normalised, of logits L x (N, Ri, K) and deltas L x (N, Ri, 4).

        A loss that is a sum is divided by the moving average of the foreground anchors per batch, which is updated; in
        evaluation by the foreground anchors of this batch, and the average stays. A loss that is a mean is not divided.

        Returns:
            {"loss_cls": (), "loss_box_reg": ()}, float32.
        """
        anchors = Boxes.cat(predictions.anchors).tensor  # (R, 4)
        deltas = torch.cat(predictions.deltas, dim=1)  # (N, R, 4)
        image_idxs, anchor_idxs = labels.foreground  # (P,) each
        targets = ClassTargets(
            labels=labels.gt_labels,
            foreground=labels.foreground,
            gt_boxes=labels.gt_boxes,
            decode=lambda i, a: self.box2box_transform.apply_deltas(deltas[i, a].detach().float(), anchors[a]),
        )
        loss_cls = self.cls_loss(predictions.logits, targets)
        loss_box = self.box_loss(deltas[image_idxs, anchor_idxs], anchors[anchor_idxs], labels.gt_boxes)
        if self._unseen_losses:
            check_loss(self.cls_loss, loss_cls, slot="MODEL.RETINANET.CLS_LOSS")
            check_loss(self.box_loss, loss_box, slot="MODEL.RETINANET.BBOX_REG_LOSS_TYPE")
            self._unseen = self._unseen_losses = False
        if has_event_storage():
            get_event_storage().put_scalar("num_pos_anchors", labels.num_foreground / len(labels.gt_labels))
        normalizer = self.update_normalizer(labels.num_foreground) if self.training else max(labels.num_foreground, 1)
        if self.training and is_due(self.details_period, after=1):
            self.log_details(predictions, targets, normalizer)
        return {
            "loss_cls": loss_cls if getattr(self.cls_loss, "normalized", False) else loss_cls / normalizer,
            "loss_box_reg": loss_box / normalizer,
        }

    @torch.no_grad()
    def update_normalizer(self, num_foreground: int) -> Tensor:
        """Update ``loss_normalizer`` with the foreground anchors (P,) of a batch, counted over all processes.

        Returns:
            Divisor of the losses of this process, float32 (): the new value, 0.9 x the old one + 0.1 x max(foreground
            anchors of all processes, 1), over the number of processes. DDP averages gradients, so the gradient equals
            that of one process with the whole batch.
        """
        count = torch.full_like(self.loss_normalizer, num_foreground)
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(count)
        self.loss_normalizer.lerp_(count.clamp_(min=1), 1 - NORMALIZER_MOMENTUM)
        return self.loss_normalizer / comm.get_world_size()

    def inference(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        images: ImageList,
        batched_inputs: list[dict[str, Any]],
    ) -> list[dict[str, Instances]]:
        """Return the detections of each image, scaled to its ("height", "width") or in pixels of the network input.

        Args:
            anchors: L ``Boxes`` of (Ri, 4).
            pred_logits: L x (N, Ri, K).
            pred_anchor_deltas: L x (N, Ri, 4).
            images: the batch, for the sizes without padding.
            batched_inputs: N dicts.
        """
        levels = [level.tensor for level in anchors]
        results = []
        for i, (size, inputs) in enumerate(zip(images.image_sizes, batched_inputs, strict=True)):
            instances = detect(
                levels,
                [x[i] for x in pred_logits],
                [x[i] for x in pred_anchor_deltas],
                size,
                transform=self.box2box_transform,
                score_thresh=self.score_thresh_test,
                topk=self.topk_candidates_test,
                nms_thresh=self.nms_thresh_test,
                max_detections=self.max_detections,
                clip_before_nms=self.clip_before_nms,
                class_agnostic=self.class_agnostic_nms,
                soft=self.soft_nms,
                soft_sigma=self.soft_nms_sigma,
            )
            height, width = inputs.get("height", size[0]), inputs.get("width", size[1])
            results.append({"instances": detector_postprocess(instances, height, width)})
        return results
