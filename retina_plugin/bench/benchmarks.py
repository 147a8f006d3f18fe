"""The benchmarks: each case is the same work by several implementations, the first of which is the reference."""

import functools
from dataclasses import dataclass

from retina_plugin.bench import data_cases, model_cases, predict_cases
from retina_plugin.bench.dataset_start import CORNERS, detectron2_reads, plugin_reads
from retina_plugin.bench.measure import Implementation

DETECTRON2, TORCHVISION = "Detectron2", "torchvision"
FP32, DEFAULT, COMPILED = "plugin, fp32", "plugin", "plugin, compiled"


@dataclass(frozen=True)
class Case:
    """The same work by several implementations.

    Args:
        title: the work, for the table.
        implementations: by name; the first is the reference.
    """

    title: str
    implementations: dict[str, Implementation]


CASES = {
    "train_step": Case(
        "training step, R-50, 2 images of 512 x 512, K = 80",
        {
            DETECTRON2: model_cases.train_step(model_cases.detectron2_model),
            TORCHVISION: model_cases.torchvision_step,
            FP32: model_cases.train_step(model_cases.plugin_model(*model_cases.FP32_OPTS)),
            DEFAULT: model_cases.train_step(model_cases.plugin_model()),
        },
    ),
    "train_step_compiled": Case(
        "the same, compiled (MODEL.COMPILE)",
        {
            DETECTRON2: model_cases.train_step(model_cases.detectron2_model),
            FP32: model_cases.train_step(model_cases.plugin_model(*model_cases.FP32_OPTS, *model_cases.COMPILE_OPTS)),
            DEFAULT: model_cases.train_step(model_cases.plugin_model(*model_cases.COMPILE_OPTS)),
        },
    ),
    "loss": Case(
        "classification loss, forward and backward, 2 images of 800 x 1216, K = 80",
        {
            DETECTRON2: model_cases.loss(model_cases.detectron2_focal_loss),
            DEFAULT: model_cases.loss(model_cases.plugin_focal_loss(False)),
        },
    ),
    "loss_compiled": Case(
        "the same, compiled",
        {
            DETECTRON2: model_cases.loss(model_cases.detectron2_focal_loss),
            COMPILED: model_cases.loss(model_cases.plugin_focal_loss(True)),
        },
    ),
    "assign_100": Case(
        "assignment, 2 images of 800 x 1216, 100 boxes each",
        {DETECTRON2: model_cases.detectron2_assignment(100), DEFAULT: model_cases.plugin_assignment(100)},
    ),
    "assign_1000": Case(
        "assignment, 2 images of 800 x 1216, 1,000 boxes each",
        {DETECTRON2: model_cases.detectron2_assignment(1000), DEFAULT: model_cases.plugin_assignment(1000)},
    ),
    "inference": Case(
        "inference, array of 480 x 640 in, 800 x 1066 through R-50, Instances out",
        {
            DETECTRON2: model_cases.predictor(model_cases.cfg_detectron2),
            TORCHVISION: model_cases.torchvision_inference(1),
            FP32: model_cases.predictor(model_cases.cfg_plugin(*model_cases.FP32_OPTS)),
            DEFAULT: model_cases.predictor(model_cases.cfg_plugin()),
        },
    ),
    "inference_batch": Case(
        "inference, 4 images of 800 x 1066 at once",
        {
            DETECTRON2: model_cases.batched(model_cases.detectron2_model),
            TORCHVISION: model_cases.torchvision_inference(4),
            FP32: model_cases.batched(model_cases.plugin_model(*model_cases.FP32_OPTS)),
            DEFAULT: model_cases.batched(model_cases.plugin_model()),
        },
    ),
    "predict": Case(
        f"prediction on a folder, {predict_cases.IMAGES} JPEGs of 480 x 640 and a broken one, R-50 at 800 x 1066",
        {
            "Detectron2, DefaultPredictor in a loop": predict_cases.detectron2_loop,
            "plugin, retina predict": predict_cases.stream,
            "plugin, OpenVINO bf16": predict_cases.exported("bf16"),
            "plugin, OpenVINO int8": predict_cases.exported("int8"),
        },
    ),
    "postprocess": Case(
        "post-processing, 2 images of 800 x 1216, K = 80",
        {
            DETECTRON2: model_cases.postprocess(model_cases.cfg_detectron2, model_cases.detectron2_detections),
            DEFAULT: model_cases.postprocess(model_cases.cfg_plugin(), model_cases.plugin_detections),
        },
    ),
    "mapper": Case(
        "mapper, JPEG of 480 x 640 to a shorter side of 800",
        {
            DETECTRON2: data_cases.mapper(data_cases.detectron2_mapper),
            DEFAULT: data_cases.mapper(data_cases.plugin_mapper),
        },
    ),
    "evaluation": Case(
        "COCO evaluation, 5,000 images with 100 detections each, loading included",
        {
            "pycocotools": data_cases.evaluation("pycocotools"),
            DEFAULT: data_cases.evaluation("hotcoco"),
        },
    ),
    "dataset_start": Case(
        "start on a COCO JSON of 118,287 images and 860,001 boxes",
        {
            "Detectron2, reading": data_cases.dataset_start(detectron2_reads),
            "plugin, reading": data_cases.dataset_start(functools.partial(plugin_reads, look=False)),
            "plugin, reading and looking at every image": data_cases.dataset_start(
                functools.partial(plugin_reads, look=True)
            ),
        },
    ),
    "dataset_start_polygons": Case(
        "the same, with a polygon of 12 corners for each box",
        {
            "Detectron2, reading": data_cases.dataset_start(detectron2_reads, corners=CORNERS),
            "plugin, reading": data_cases.dataset_start(functools.partial(plugin_reads, look=False), corners=CORNERS),
        },
    ),
}
"""Cases by their name in ``retina bench --cases``."""
