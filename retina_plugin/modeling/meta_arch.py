"""RetinaNet as a detectron2 meta-architecture: the one place that wires the parts."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from detectron2.config import CfgNode, configurable
from detectron2.data.detection_utils import convert_image_to_rgb
from detectron2.modeling import (
    META_ARCH_REGISTRY,
    Backbone,
    build_anchor_generator,
    build_backbone,
    detector_postprocess,
)
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.meta_arch.dense_detector import permute_to_N_HWA_K
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage, has_event_storage
from detectron2.utils.visualizer import Visualizer

from retina_plugin.config import refuse_unresolved
from retina_plugin.modeling.assignment import ASSIGNER_REGISTRY, Assigner, ignore_inside
from retina_plugin.modeling.contracts import check_anchors, check_features, check_head, check_labels, check_loss
from retina_plugin.modeling.details import loss_details
from retina_plugin.modeling.head import HEAD_REGISTRY
from retina_plugin.modeling.labels import AnchorLabels, LabelCheck, LabelError
from retina_plugin.modeling.losses import BOX_LOSS_REGISTRY, CLS_LOSS_REGISTRY, ClassTargets
from retina_plugin.modeling.neck import PyramidLevels
from retina_plugin.modeling.postprocess import detect
from retina_plugin.modeling.precision import autocast, precision_of, resolve_precision
from retina_plugin.registry import OPTIONS

logger = logging.getLogger(__name__)

COMPILED_PARTS = ("backbone", "head", "cls_loss")
"""What MODEL.COMPILE may name."""

COMPILE_OPTIONS = {"force_layout_optimization": True}
"""Convolutions channels last, as everything here is; otherwise their gradients are compiled anew for every image size."""

NORMALIZER_START, NORMALIZER_MOMENTUM = 100.0, 0.9
"""The loss normaliser is a moving average of the foreground anchors of a batch, as in Detectron2."""

VISUALIZED_DETECTIONS = 20
"""Predictions in a picture of VIS_PERIOD."""


class Predictions(NamedTuple):
    """What the network says of a batch of N images.

    Args:
        anchors: L ``Boxes`` of (Ri, 4), XYXY pixels of the network input, the same for all images; shared, do not change them.
        logits: L x (N, Ri, K), in the type of the convolutions.
        deltas: L x (N, Ri, 4), the same.
    """

    anchors: list[Boxes]
    logits: list[Tensor]
    deltas: list[Tensor]


@META_ARCH_REGISTRY.register()
class RetinaPluginNet(nn.Module):
    """RetinaNet (Lin et al. 2017) with every part exchangeable by name.

    In training it maps a list of Detectron2's dataset dicts ("image" (C, H, W), "instances" and, where
    there are crowds, "ignore_boxes" (G, 4)) to
    ``{"loss_cls": (), "loss_box_reg": ()}``; in evaluation to a list of ``{"instances": Instances}``
    with ``pred_boxes``, ``scores``, ``pred_classes`` in pixels of ("height", "width").

    The steps are methods of their own, to be called or overridden: :meth:`preprocess_image`, :meth:`predict`,
    then :meth:`label_anchors` and :meth:`losses` in training, :meth:`inference` otherwise.

    Parameter names equal those of detectron2's ``RetinaNet``, so its checkpoints load as they are;
    only ``loss_normalizer``, here a buffer that survives resuming, is missing from them.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        head_in_features: list[str],
        anchor_generator: nn.Module,
        assigner: Assigner,
        cls_loss,
        box_loss,
        box2box_transform: Box2BoxTransform,
        num_classes: int,
        score_thresh_test: float,
        topk_candidates_test: int,
        nms_thresh_test: float,
        max_detections: int,
        clip_before_nms: bool = False,
        pixel_mean: list[float],
        pixel_std: list[float],
        channels_last: bool,
        precision: str,
        compile_parts: Sequence[str] = (),
        input_format: str = "BGR",
        vis_period: int = 0,
        details_period: int = 0,
    ) -> None:
        """
        Args:
            backbone: with the pyramid; yields ``head_in_features``.
            head: see ``HEAD_REGISTRY``.
            head_in_features: names of the L maps, finest first.
            anchor_generator: from L feature maps to L ``Boxes`` of (Ri, 4).
            assigner: see ``ASSIGNER_REGISTRY``.
            cls_loss, box_loss: see ``CLS_LOSS_REGISTRY``, ``BOX_LOSS_REGISTRY``.
            box2box_transform: encoding of the deltas.
            num_classes: K, without background.
            score_thresh_test, topk_candidates_test, nms_thresh_test, max_detections, clip_before_nms: see
                :func:`retina_plugin.modeling.postprocess.detect`.
            pixel_mean, pixel_std: per channel, of the 0..255 range, in the order of INPUT.FORMAT.
            channels_last: keep images in that memory format, which spreads through the convolutions.
            precision: of the convolutions, see :func:`retina_plugin.modeling.precision.resolve_precision`.
            compile_parts: which of ``COMPILED_PARTS`` go through ``torch.compile``, for any image size.
            input_format: INPUT.FORMAT, for pictures.
            vis_period: iterations between pictures of a training image with its boxes and the predictions; 0: none.
            details_period: iterations between losses of each level and class in the log; 0: none.
        """
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.head_in_features = list(head_in_features)
        self.anchor_generator = anchor_generator
        self.assigner = assigner
        self.cls_loss = cls_loss
        self.box_loss = box_loss
        self.box2box_transform = box2box_transform
        self.num_classes = num_classes
        self.score_thresh_test = score_thresh_test
        self.topk_candidates_test = topk_candidates_test
        self.nms_thresh_test = nms_thresh_test
        self.max_detections, self.clip_before_nms = max_detections, clip_before_nms
        self.precision = precision
        self.input_format, self.vis_period, self.details_period = input_format, vis_period, details_period
        self._unseen = self._unseen_losses = True  # contracts are looked at in the first step
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.register_buffer(
            "pixel_mean", torch.tensor(pixel_mean, dtype=torch.float32).view(-1, 1, 1), persistent=False
        )
        self.register_buffer("pixel_std", torch.tensor(pixel_std, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("loss_normalizer", torch.tensor(NORMALIZER_START))
        self.to(memory_format=self.memory_format)
        if unknown := set(compile_parts) - set(COMPILED_PARTS):
            raise ValueError(f"MODEL.COMPILE may hold {', '.join(COMPILED_PARTS)}; got {sorted(unknown)}")
        for part in compile_parts:
            module = getattr(self, part)
            if isinstance(module, nn.Module):
                module.compile(dynamic=True, options=COMPILE_OPTIONS)
            elif hasattr(module, "compile"):
                module.compile()
            else:
                logger.warning(
                    "MODEL.COMPILE names %s, but %s has no compile(): it runs as it is", part, type(module).__name__
                )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        refuse_unresolved(cfg)
        node = cfg.MODEL.RETINANET
        if node.NUM_CLASSES < 1:
            raise ValueError(
                f"MODEL.RETINANET.NUM_CLASSES is {node.NUM_CLASSES}: load the config with retina_plugin.load_config, which takes "
                "the number from the dataset, or set it"
            )
        backbone = build_backbone(cfg)
        features = PyramidLevels.from_config(cfg).features
        shapes = [backbone.output_shape()[name] for name in features]
        anchor_generator = build_anchor_generator(cfg, shapes)
        transform = Box2BoxTransform(weights=tuple(node.BBOX_REG_WEIGHTS))
        return {
            "backbone": backbone,
            "head": HEAD_REGISTRY.get(cfg.MODEL.RETINANET.HEAD_NAME)(
                cfg,
                shapes,
                anchor_generator.num_anchors[0],
                **HEAD_REGISTRY.options_of(cfg.MODEL.RETINANET.HEAD_NAME, cfg),
            ),
            "head_in_features": features,
            "anchor_generator": anchor_generator,
            "assigner": ASSIGNER_REGISTRY.build(
                cfg.MODEL.RETINANET.ASSIGNER,
                cfg=cfg,
                thresholds=node.IOU_THRESHOLDS,
                labels=node.IOU_LABELS,
                allow_low_quality_matches=cfg.MODEL.RETINANET.ALLOW_LOW_QUALITY_MATCHES,
                atss_topk=cfg.MODEL.RETINANET.ATSS_TOPK,
                num_anchors=anchor_generator.num_anchors[0],
            ),
            "cls_loss": CLS_LOSS_REGISTRY.build(
                cfg.MODEL.RETINANET.CLS_LOSS,
                cfg=cfg,
                alpha=node.FOCAL_LOSS_ALPHA,
                gamma=node.FOCAL_LOSS_GAMMA,
                **{
                    name.lower(): value
                    for name, value in cfg.MODEL.CLS_LOSS.items()
                    if f"MODEL.CLS_LOSS.{name}" not in OPTIONS
                },
            ),
            "box_loss": BOX_LOSS_REGISTRY.build(
                node.BBOX_REG_LOSS_TYPE, cfg=cfg, transform=transform, beta=node.SMOOTH_L1_LOSS_BETA
            ),
            "box2box_transform": transform,
            "num_classes": node.NUM_CLASSES,
            "score_thresh_test": node.SCORE_THRESH_TEST,
            "topk_candidates_test": node.TOPK_CANDIDATES_TEST,
            "nms_thresh_test": node.NMS_THRESH_TEST,
            "max_detections": cfg.TEST.DETECTIONS_PER_IMAGE,
            "clip_before_nms": cfg.MODEL.RETINANET.CLIP_BEFORE_NMS,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "channels_last": cfg.MODEL.CHANNELS_LAST,
            "precision": precision_of(cfg),
            "compile_parts": cfg.MODEL.COMPILE,
            "input_format": cfg.INPUT.FORMAT,
            "vis_period": cfg.VIS_PERIOD,
            "details_period": cfg.SOLVER.DETAILS_PERIOD,
        }

    @property
    def device(self) -> torch.device:
        """Where the model is; inputs are moved there."""
        return self.pixel_mean.device

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        """Type of the convolutions on the present device; None for float32."""
        return resolve_precision(self.precision, self.device)

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict[str, Instances]]:
        """See the class; ``batched_inputs`` has N dicts with "image" (C, H, W), 0..255, in INPUT.FORMAT.

        Raises:
            ValueError: an image is none; in training, an input has no "instances", or a label is no class.
        """
        if self.training and (without := [i for i, x in enumerate(batched_inputs) if "instances" not in x]):
            raise ValueError(f"training needs 'instances' in every input; inputs {without} have none")
        images = self.preprocess_image(batched_inputs)
        predictions = self.predict(images)
        if not self.training:
            return self.inference(*predictions, images, batched_inputs)
        if self.vis_period > 0 and has_event_storage() and get_event_storage().iter % self.vis_period == 0:
            self.visualize_training(*predictions, images, batched_inputs)
        return self.losses(predictions, self.label_inputs(predictions.anchors, batched_inputs))

    def preprocess_image(self, batched_inputs: list[dict]) -> ImageList:
        """Normalise, pad to the pyramid's divisor and batch: N x (C, H, W) to (N, C, H, W).

        Raises:
            ValueError: an "image" is no tensor (C, H, W) with the channels of MODEL.PIXEL_MEAN.
        """
        for i, x in enumerate(batched_inputs):
            image, channels = x.get("image"), len(self.pixel_mean)
            if (
                not isinstance(image, Tensor)
                or image.ndim != 3
                or image.shape[0] != channels
                or 0 in image.shape
                or image.is_complex()
            ):
                got = f"{tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
                where = f" ({x['file_name']})" if x.get("file_name") else ""
                raise ValueError(
                    f"'image' of input {i}{where} must be a tensor ({channels}, height, width) of values 0..255; got {got}"
                )
        images = [x["image"].to(self.device, non_blocking=True) for x in batched_inputs]
        sizes = [tuple(image.shape[-2:]) for image in images]
        divisor, square = (
            max(1, self.backbone.size_divisibility),
            self.backbone.padding_constraints.get("square_size", 0),
        )
        height, width = (square or -(-max(side) // divisor) * divisor for side in zip(*sizes))
        batch = self.pixel_mean.new_empty(len(images), len(self.pixel_mean), height, width).contiguous(
            memory_format=self.memory_format
        )
        for padded, image, (h, w) in zip(batch, images, sizes, strict=True):
            torch.sub(image, self.pixel_mean, out=padded[:, :h, :w]).div_(self.pixel_std)
            padded[:, h:].zero_()
            padded[:, :h, w:].zero_()
        return ImageList(batch, sizes)

    def predict(self, images: ImageList) -> Predictions:
        """Anchors, logits and deltas of a batch that :meth:`preprocess_image` made."""
        with autocast(self.device, self.autocast_dtype):
            found = self.backbone(images.tensor)
            if self._unseen and not torch.jit.is_tracing():
                self._check_features(found, images)
            features = [found[name] for name in self.head_in_features]
            outputs = self.head(features)
        anchors = self.anchor_generator(features)
        if self._unseen and not torch.jit.is_tracing():
            self._check_outputs(outputs, anchors, features)
        logits, deltas = outputs
        # Channels last, as the convolutions wrote them, these are views; otherwise copies.
        logits = [permute_to_N_HWA_K(x, self.num_classes) for x in logits]  # L x (N, Ri, K)
        deltas = [permute_to_N_HWA_K(x, 4) for x in deltas]  # L x (N, Ri, 4)
        return Predictions(anchors, logits, deltas)

    def _check_features(self, found: object, images: ImageList) -> None:
        slot = f"MODEL.FPN.NAME (through {type(self.backbone).__name__})"
        check_features(
            self.backbone, found, self.head_in_features, self.backbone.output_shape(), images.tensor, slot=slot
        )

    def _check_outputs(self, outputs: object, anchors: object, features: list[Tensor]) -> None:
        """The contracts of head and anchor generator, and, in evaluation, the end of looking at them."""
        count = self.anchor_generator.num_anchors[0]
        check_head(
            self.head,
            outputs,
            features,
            num_anchors=count,
            num_classes=self.num_classes,
            slot="MODEL.RETINANET.HEAD_NAME",
        )
        check_anchors(self.anchor_generator, anchors, features, num_anchors=count, slot="MODEL.ANCHOR_GENERATOR.NAME")
        if not self.training:
            self._unseen = False

    @torch.no_grad()
    def label_anchors(self, anchors: list[Boxes], gt_instances: list[Instances]) -> AnchorLabels:
        """Labels of all anchors of a batch, and the boxes that foreground anchors are matched with.

        Args:
            anchors: L ``Boxes`` of (Ri, 4).
            gt_instances: N ``Instances`` with ``gt_boxes`` (Mi, 4) and ``gt_classes`` (Mi,), on any device.

        Raises:
            LabelError: a label is none of 0..K-1; a ValueError.
        """
        check = LabelCheck(gt_instances, self.num_classes)
        counts = [len(gt) for gt in gt_instances]
        # One copy to the device for the boxes of all images, one for their classes.
        gt_boxes = torch.cat([gt.gt_boxes.tensor for gt in gt_instances]).to(self.device, non_blocking=True)  # (M, 4)
        gt_classes = torch.cat([gt.gt_classes for gt in gt_instances]).to(self.device, non_blocking=True)
        found = self.assigner(
            [x.tensor for x in anchors], gt_boxes.split(counts), gt_classes.split(counts), self.num_classes
        )
        if self._unseen_losses:
            sizes = {
                "num_images": len(counts),
                "num_anchors": sum(map(len, anchors)),
                "num_boxes": len(gt_boxes),
                "num_classes": self.num_classes,
            }
            check_labels(self.assigner, found, slot="MODEL.RETINANET.ASSIGNER", **sizes)
        gt_labels, matched_idxs = found  # (N, R) each
        # Synchronises with the GPU.
        image_idxs, anchor_idxs = ((gt_labels >= 0) & (gt_labels < self.num_classes)).nonzero(
            as_tuple=True
        )  # (P,) each
        check.finish()
        return AnchorLabels(gt_labels, (image_idxs, anchor_idxs), gt_boxes[matched_idxs[image_idxs, anchor_idxs]])

    @torch.no_grad()
    def label_inputs(self, anchors: list[Boxes], batched_inputs: list[dict]) -> AnchorLabels:
        """:meth:`label_anchors` for dataset dicts: background in their "ignore_boxes" is ignored, and an error names the file.

        Args:
            anchors: L ``Boxes`` of (Ri, 4).
            batched_inputs: N dicts with "instances" and perhaps "ignore_boxes" (G, 4), regions that nobody labelled.
        """
        try:
            labels = self.label_anchors(anchors, [x["instances"] for x in batched_inputs])
        except LabelError as error:
            raise LabelError(
                error.image, error.wrong, error.num_classes, batched_inputs[error.image].get("file_name")
            ) from None
        for gt_labels, inputs in zip(labels.gt_labels, batched_inputs, strict=True):
            if (regions := inputs.get("ignore_boxes")) is not None:
                ignore_inside(
                    gt_labels, Boxes.cat(anchors).tensor, regions.to(self.device, non_blocking=True), self.num_classes
                )
        return labels

    def losses(self, predictions: Predictions, labels: AnchorLabels) -> dict[str, Tensor]:
        """Both losses of a batch, each over its normaliser.

        A loss that is a sum is divided by the moving average of the foreground anchors of a batch, which moves; in
        evaluation by the foreground anchors of this batch, and the average stays. A loss that is a mean is left alone.

        Returns:
            {"loss_cls": (), "loss_box_reg": ()}, float32.
        """
        anchors, (image_idxs, anchor_idxs) = (
            Boxes.cat(predictions.anchors).tensor,
            labels.foreground,
        )  # (R, 4), (P,) each
        deltas = torch.cat(predictions.deltas, dim=1)  # (N, R, 4)
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
        if (
            self.training
            and self.details_period > 0
            and has_event_storage()
            and (get_event_storage().iter + 1) % self.details_period == 0
        ):
            self.log_details(predictions, targets, normalizer)
        return {
            "loss_cls": loss_cls if getattr(self.cls_loss, "normalized", False) else loss_cls / normalizer,
            "loss_box_reg": loss_box / normalizer,
        }

    def log_details(self, predictions: Predictions, targets: ClassTargets, normalizer: Tensor) -> None:
        """Give the event storage the losses of each level and class, over the normaliser where the whole loss is."""
        parts = loss_details(
            predictions.logits,
            predictions.deltas,
            [level.tensor for level in predictions.anchors],
            targets,
            cls_loss=self.cls_loss,
            box_loss=self.box_loss,
        )
        means = getattr(self.cls_loss, "normalized", False)
        for name, value in parts.items():
            level = name.partition("/level")[2]
            shown = (
                f"{name.partition('/')[0]}/{self.head_in_features[int(level)]}"
                if level.isdigit()
                else f"loss_cls/class {name.partition('/')[2]}"
            )
            get_event_storage().put_scalar(
                shown,
                float(value if means and name.startswith("loss_cls") else value / normalizer),
                smoothing_hint=False,
            )

    @torch.no_grad()
    def update_normalizer(self, num_foreground: int) -> Tensor:
        """Move ``loss_normalizer`` towards the foreground anchors of a batch, those of all processes.

        Returns:
            What the losses of this process are divided by, float32 of shape (): the new value, 0.9 x the old one + 0.1 x
            max(foreground anchors of all processes, 1), over the number of processes. DDP averages gradients, so that the gradient is
            that of one process with the whole batch.
        """
        count = torch.full_like(self.loss_normalizer, num_foreground)
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(count)
        self.loss_normalizer.lerp_(count.clamp_(min=1), 1 - NORMALIZER_MOMENTUM)
        return self.loss_normalizer / comm.get_world_size()

    @torch.no_grad()
    def visualize_training(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        images: ImageList,
        batched_inputs: list[dict],
    ) -> None:
        """Give the event storage a picture of the first image: its boxes left, the most certain predictions right.

        Args:
            anchors: L ``Boxes`` of (Ri, 4).
            pred_logits, pred_anchor_deltas: L x (N, Ri, K) and L x (N, Ri, 4).
            images: the batch.
            batched_inputs: N dicts with "image" and "instances".
        """
        first, inputs = ImageList(images.tensor[:1], images.image_sizes[:1]), batched_inputs[0]
        own = {
            key: value for key, value in inputs.items() if key not in ("height", "width")
        }  # the boxes are those of the network input
        (found,) = self.inference(
            anchors, [x[:1] for x in pred_logits], [x[:1] for x in pred_anchor_deltas], first, [own]
        )
        found = found["instances"].to("cpu")
        best = found.scores.argsort(descending=True)[:VISUALIZED_DETECTIONS]
        picture = convert_image_to_rgb(inputs["image"].permute(1, 2, 0), self.input_format)
        drawn = [
            Visualizer(picture).overlay_instances(boxes=boxes.tensor.cpu().numpy()).get_image()
            for boxes in (inputs["instances"].gt_boxes, found.pred_boxes[best])
        ]
        get_event_storage().put_image(
            "left: ground truth, right: predictions",
            torch.from_numpy(np.concatenate(drawn, axis=1)).permute(2, 0, 1).numpy(),
        )

    def inference(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        images: ImageList,
        batched_inputs: list[dict],
    ) -> list[dict[str, Instances]]:
        """Detections of each image, in pixels of the ("height", "width") it asks for, else of the network input.

        Args:
            anchors: L ``Boxes`` of (Ri, 4).
            pred_logits, pred_anchor_deltas: L x (N, Ri, K) and L x (N, Ri, 4).
            images: the batch, for the sizes without padding.
            batched_inputs: N dicts.
        """
        anchors = [level.tensor for level in anchors]
        results = []
        for i, (size, inputs) in enumerate(zip(images.image_sizes, batched_inputs, strict=True)):
            instances = detect(
                anchors,
                [x[i] for x in pred_logits],
                [x[i] for x in pred_anchor_deltas],
                size,
                transform=self.box2box_transform,
                score_thresh=self.score_thresh_test,
                topk=self.topk_candidates_test,
                nms_thresh=self.nms_thresh_test,
                max_detections=self.max_detections,
                clip_before_nms=self.clip_before_nms,
            )
            results.append(
                {
                    "instances": detector_postprocess(
                        instances, inputs.get("height", size[0]), inputs.get("width", size[1])
                    )
                }
            )
        return results
