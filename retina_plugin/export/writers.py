"""Writes a detector as ONNX, OpenVINO, TorchScript or a program of torch.export."""

import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detectron2.config import CfgNode

from retina_plugin.export.graph import DetectorGraph, WholeGraph
from retina_plugin.export.metadata import KEY, Metadata
from retina_plugin.inference.predictor import RetinaPredictor
from retina_plugin.modeling.anchors import TorchvisionAnchors
from retina_plugin.modeling.meta_arch import RetinaPluginNet
from retina_plugin.version import __version__

PRECISIONS = {
    "onnx": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "fp16", "bf16", "int8"),
    "torchscript": ("fp32",),
    "torch-export": ("fp32",),
}
"""Precisions of each kind of file."""

PACKAGES: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxruntime"),
    "openvino": ("onnx", "openvino", "nncf"),
    "torchscript": (),
    "torch-export": (),
}
"""What has to be installed to write each kind of file."""

SUFFIX = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".ts", "torch-export": ".pt2"}

OPSET = 17
NAMES = ("logits", "best", "deltas")
"""Outputs of a file without post-processing."""

WHOLE_NAMES = ("boxes", "scores", "labels")
"""Outputs of a file with post-processing inside."""

EXACT_LAYERS = ("cls_score", "bbox_pred")
"""The last convolutions of the head, which stay exact in int8 ONNX: their outputs span more than 8 bits resolve."""

CALIBRATION_IMAGES = 100
"""Images that the ranges of int8 are measured on."""


def describe(
    predictor: RetinaPredictor, *, precision: str, thresholds: Sequence[float] | None, nms_inside: bool = False
) -> Metadata:
    """Return the description of an exported detector, without its proof.

    Args:
        predictor: the detector.
        precision: of the file.
        thresholds: minimum score of each class, see :class:`Metadata`.
        nms_inside: whether the file takes one image and returns its detections.

    Raises:
        ValueError: the model is not one of the plugin's, or has options that an exported file does not have.
    """
    cfg, model = predictor.cfg, predictor.model
    if type(model) is not RetinaPluginNet:
        raise ValueError(f"only RetinaPluginNet can be exported, not {type(model).__name__}")
    _refuse(cfg, model)
    generator: Any = model.anchor_generator
    if nms_inside and precision != "fp32":
        raise ValueError(f"suppression inside the file needs the precision fp32, got {precision}")
    if nms_inside and model.soft_nms:
        raise ValueError(
            "suppression inside the file is not soft: set MODEL.RETINANET.SOFT_NMS '' with --set, or leave it outside"
        )
    if nms_inside and isinstance(generator, TorchvisionAnchors):
        raise ValueError("torchvision's anchors depend on the size of the image: leave suppression outside the file")
    longest = cfg.INPUT.MAX_SIZE_TEST
    return Metadata(
        class_names=list(predictor.class_names),
        thresholds=None if thresholds is None else [float(x) for x in thresholds],
        image_format=cfg.INPUT.FORMAT,
        reader=cfg.INPUT.READER,
        value_range=[float(x) for x in cfg.INPUT.VALUE_RANGE],
        max_pixels=cfg.INPUT.MAX_IMAGE_PIXELS,
        shorter=cfg.INPUT.MIN_SIZE_TEST,
        longest=longest,
        divisor=max(model.backbone.size_divisibility, 1),
        padding=[float(x) for x in model.pixel_mean.flatten()],
        cell_anchors=[cell.tolist() for cell in generator.cell_anchors],
        strides=[int(x) for x in generator.strides],
        anchor_offset=float(generator.offset),
        steps_from_map=isinstance(generator, TorchvisionAnchors),
        nms_inside=nms_inside,
        soft_nms=model.soft_nms,
        soft_nms_sigma=float(model.soft_nms_sigma),
        box_weights=[float(x) for x in model.box2box_transform.weights],
        scale_clamp=float(model.box2box_transform.scale_clamp),
        score_thresh=float(model.score_thresh_test),
        topk=int(model.topk_candidates_test),
        nms_thresh=float(model.nms_thresh_test),
        max_detections=int(model.max_detections),
        class_agnostic=bool(model.class_agnostic_nms),
        precision=precision,
        image_size=predictor.info.get("image_size"),
        checkpoint=os.path.basename(cfg.MODEL.WEIGHTS),
        version=__version__,
    )


def _refuse(cfg: CfgNode, model: RetinaPluginNet) -> None:
    """Raise a ValueError for what the runtime does not compute."""
    reasons = {
        "MODEL.RETINANET.CLIP_BEFORE_NMS": model.clip_before_nms,
        "TEST.TILES.SIZE": cfg.TEST.TILES.SIZE > 0,
        "TEST.AUG.ENABLED": cfg.TEST.AUG.ENABLED,
        f"INPUT.FORMAT {cfg.INPUT.FORMAT}": cfg.INPUT.FORMAT not in ("BGR", "RGB"),
        "a backbone of fixed input size": bool(model.backbone.padding_constraints.get("square_size", 0)),
        f"INPUT.MAPPER {cfg.INPUT.MAPPER}": cfg.INPUT.MAPPER != "retina",
    }
    if wrong := [name for name, there in reasons.items() if there]:
        raise ValueError(
            f"an exported file has no {', '.join(wrong)}: set it differently with --set, or use the checkpoint"
        )


def write_onnx(
    predictor: RetinaPredictor, file: Path, metadata: Metadata, *, images: Sequence[str] = (), precision: str = "fp32"
) -> None:
    """Write ONNX with a free batch size and image size.

    Args:
        predictor: in float32, on the CPU.
        file: to write.
        metadata: stored in the file.
        images: files that int8 is calibrated on.
        precision: "fp32", "fp16" or "int8".
    """
    import onnx

    graph, example = _graph(predictor, metadata)
    if metadata.nms_inside:
        names: tuple[str, ...] = WHOLE_NAMES
        axes = {"images": {2: "height", 3: "width"}, **{name: {0: "detections"} for name in names}}
    else:
        names = NAMES
        axes = {"images": {0: "n", 2: "height", 3: "width"}, **{name: {0: "n", 1: "anchors"} for name in names}}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        # torch's newer exporter takes minutes for sizes that are free.
        torch.onnx.export(
            graph,
            (example,),
            str(file),
            dynamo=False,
            opset_version=OPSET,
            input_names=["images"],
            output_names=list(names),
            dynamic_axes=axes,
        )
    if precision == "fp16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        onnx.save(convert_float_to_float16(onnx.load(str(file)), keep_io_types=True), str(file))
    elif precision == "int8":
        _quantize_onnx(file, predictor, images)
    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, {KEY: metadata.to_json()})
    onnx.save(model, str(file))


def _graph(predictor: RetinaPredictor, metadata: Metadata) -> tuple[torch.nn.Module, torch.Tensor]:
    """Return what is traced, and an input of it."""
    model, side = predictor.model, metadata.divisor * 2
    graph = WholeGraph(model) if metadata.nms_inside else DetectorGraph(model)
    return graph.eval(), torch.zeros(1, len(metadata.padding), side, side + metadata.divisor)


def _quantize_onnx(file: Path, predictor: RetinaPredictor, images: Sequence[str]) -> None:
    """Replace an ONNX file by one of int8, calibrated on images."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Batches(CalibrationDataReader):
        """Yields one image after another."""

        def __init__(self) -> None:
            self.batches = calibration_batches(predictor, images)

        def get_next(self) -> dict | None:
            """Return the next input, None at the end."""
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch}

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
        exact = _exact_nodes(onnx.load(str(prepared)).graph)
        quantize_static(
            str(prepared),
            str(file),
            Batches(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=exact,
        )


def _exact_nodes(graph: Any) -> list[str]:
    """Return the names of the convolutions of an ONNX graph that stay exact in int8.

    They are the first one, whose input are pixels, depthwise ones, which have few weights and a range of their own per
    channel (on the bundled digits they cost 3.2 AP in int8), and the last ones.
    """
    nodes = [x for x in graph.node if x.op_type == "Conv"]
    groups = {x.name: next((a.i for a in x.attribute if a.name == "group"), 1) for x in nodes}
    return [
        x.name
        for i, x in enumerate(nodes)
        if not i or groups[x.name] > 1 or any(part in x.name for part in EXACT_LAYERS)
    ]


def write_openvino(
    predictor: RetinaPredictor, file: Path, metadata: Metadata, *, images: Sequence[str] = (), precision: str = "fp32"
) -> None:
    """Write OpenVINO's ``.xml`` and ``.bin``; arguments as of :func:`write_onnx`, and "bf16".

    A bf16 file holds float32 weights and asks the processor to compute in bf16.
    """
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        onnx_file = Path(folder) / "graph.onnx"
        write_onnx(predictor, onnx_file, metadata)
        model = openvino.convert_model(str(onnx_file))
    for i, name in enumerate(WHOLE_NAMES if metadata.nms_inside else NAMES):
        model.output(i).get_tensor().set_names({name})
    if precision == "int8":
        import nncf

        data = nncf.Dataset(list(calibration_batches(predictor, images)))
        model = nncf.quantize(model, data, subset_size=CALIBRATION_IMAGES, preset=nncf.QuantizationPreset.MIXED)
    model.set_rt_info(metadata.to_json(), [KEY])
    openvino.save_model(model, str(file), compress_to_fp16=precision == "fp16")


def write_script(
    predictor: RetinaPredictor, file: Path, metadata: Metadata, *, images: Sequence[str] = (), precision: str = "fp32"
) -> None:
    """Write TorchScript with a free batch size and image size; arguments as of :func:`write_onnx`, fp32 only."""
    graph, example = _graph(predictor, metadata)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        script = torch.jit.trace(graph, (example,), check_trace=False)
        torch.jit.save(script, str(file), _extra_files={KEY: metadata.to_json()})


def write_program(
    predictor: RetinaPredictor, file: Path, metadata: Metadata, *, images: Sequence[str] = (), precision: str = "fp32"
) -> None:
    """Write a program of torch.export with a free batch size; arguments as of :func:`write_onnx`, fp32 only.

    The size of the input is that of ``metadata.input_size``: torch's tracer takes many minutes for sizes that are free.
    """
    assert metadata.input_size is not None, "set by the caller"
    graph = DetectorGraph(predictor.model).eval()
    example = torch.zeros(2, len(metadata.padding), *metadata.input_size)
    sizes = {"images": {0: torch.export.Dim("n", min=1, max=1024)}}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(graph, (example,), dynamic_shapes=sizes)
        torch.export.save(program, str(file), extra_files={KEY: metadata.to_json()})


WRITERS = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "torchscript": write_script,
    "torch-export": write_program,
}
"""Functions that write each kind of file."""


def calibration_batches(predictor: RetinaPredictor, images: Sequence[str]) -> Iterator[np.ndarray]:
    """Yield inputs (1, C, H, W) float32 of the graph, from image files that can be read.

    Raises:
        ValueError: there is none.
    """
    model, count = predictor.model, 0
    divisor = max(model.backbone.size_divisibility, 1)
    padding = model.pixel_mean.reshape(-1, 1, 1)
    for file in images[:CALIBRATION_IMAGES]:
        try:
            image = predictor.map_file(file)["image"].float()
        except (OSError, ValueError):
            continue
        height, width = (-(-side // divisor) * divisor for side in image.shape[1:])
        batch = padding.expand(-1, height, width).clone()
        batch[:, : image.shape[1], : image.shape[2]] = image
        count += 1
        yield batch.unsqueeze(0).numpy()
    if not count:
        raise ValueError("int8 is calibrated on images, but none could be read: give --data")


def with_metadata(file: Path, metadata: Metadata) -> None:
    """Replace the description in a file."""
    if file.suffix == ".onnx":
        import onnx

        model = onnx.load(str(file))
        onnx.helper.set_model_props(model, {KEY: metadata.to_json()})
        onnx.save(model, str(file))
        return
    if file.suffix == ".ts":
        torch.jit.save(torch.jit.load(str(file)), str(file), _extra_files={KEY: metadata.to_json()})
        return
    if file.suffix == ".pt2":
        torch.export.save(torch.export.load(str(file)), str(file), extra_files={KEY: metadata.to_json()})
        return
    import openvino

    model = openvino.Core().read_model(str(file))
    model.set_rt_info(metadata.to_json(), [KEY])
    unfinished = file.with_name(f"{file.stem}.tmp.xml")
    openvino.save_model(model, str(unfinished), compress_to_fp16=False)
    del model
    unfinished.with_suffix(".bin").replace(file.with_suffix(".bin"))
    unfinished.replace(file)
