"""Runs an exported detector with NumPy, OpenCV and ONNX Runtime or OpenVINO; torch is not imported.

Files of torch itself need torch, but neither Detectron2 nor the model's code.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from retina_plugin.data.pixels import PixelRange
from retina_plugin.data.resize import output_size, read_resized, resized
from retina_plugin.export.metadata import KEY, Metadata
from retina_plugin.export.suppression import nms, soft_nms
from retina_plugin.inference.stream import Found

SUFFIXES = (".onnx", ".xml", ".ts", ".pt2")
"""Of files that can be run: ONNX, OpenVINO's, which comes with a ``.bin``, TorchScript, and torch.export's."""

Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Maps a batch (N, C, H, W) float32 to logits (N, R, K), their maxima (N, R) and deltas (N, R, 4), or, in a file with
suppression inside, one image (1, C, H, W) to boxes (D, 4) in its pixels, scores (D,) and labels (D,)."""


class ExportedModel:
    """A detector from a file of ``retina export``.

    Args:
        file: with one of ``SUFFIXES``.
        score: minimum score: a number for all classes; "best": the thresholds in the file; None: MODEL's.
        threads: of the processor; None: all.

    Attributes:
        metadata: what the file says about itself.
        class_names: K names.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it was not written by ``retina export``.
        ImportError: the library that runs it is not installed.
    """

    def __init__(
        self, file: str | os.PathLike, *, score: float | str | None = None, threads: int | None = None
    ) -> None:
        path = Path(file)
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist (looked in {Path.cwd()})")
        self.metadata, self.network = _opener(path.suffix)(path, threads)
        m = self.metadata
        self.class_names, self.max_pixels = m.class_names, m.max_pixels
        self.score_thresh, self.thresholds = m.score_thresh, None
        if score == "best":
            self.thresholds = np.array(m.thresholds or [FALLBACK_SCORE] * len(m.class_names), dtype=np.float32)
            self.score_thresh = max(0.0, float(self.thresholds.min()) - 1e-6)
        elif score is not None:
            self.score_thresh = float(score)
        self._range = PixelRange(*m.value_range) if m.value_range else None
        self._cells = [np.array(cell, dtype=np.float32) for cell in m.cell_anchors]
        self._anchors: dict[tuple[int, int], list[np.ndarray]] = {}

    has_views = False

    def map_file(self, file: str) -> dict:
        """Return an image file as "image" (C, h, w) uint8 of the network's size, with its "height" and "width".

        Raises:
            ImageError: the file cannot be used.
        """
        m = self.metadata
        pixels, height, width = read_resized(
            file,
            shorter=m.shorter,
            longest=m.longest,
            image_format=m.image_format,
            reader=m.reader,
            value_range=self._range,
            max_pixels=m.max_pixels,
        )
        return {"image": pixels.transpose(2, 0, 1), "height": height, "width": width}

    def map_array(self, image: np.ndarray, name: str) -> dict:
        """Return an image (H, W, 3) uint8, BGR, in the same form."""
        height, width = image.shape[:2]
        pixels = image[:, :, ::-1] if self.metadata.image_format == "RGB" else image
        size = output_size(height, width, self.metadata.shorter, self.metadata.longest)
        pixels = resized(np.ascontiguousarray(pixels), *size)
        return {"image": pixels.transpose(2, 0, 1), "height": height, "width": width}

    def __call__(self, image: np.ndarray | str | os.PathLike) -> Found:
        """Detect objects in an image file, or in an array (H, W, 3) uint8, BGR."""
        record = self.map_array(image, "") if isinstance(image, np.ndarray) else self.map_file(os.fspath(image))
        return self.run([record])[0]

    def run(self, records: list[dict], passed: Callable[[str], None] = lambda part: None) -> list[Found]:
        """Detect objects in a batch of images.

        Args:
            records: as :meth:`map_file` and :meth:`map_array` return them.
            passed: called with "network" when the network is done.
        """
        images = [record["image"] for record in records]
        if self.metadata.nms_inside:
            found = [self.network(self._batch([image])) for image in images]
            passed("network")
            return [self._in_image(*x, record) for x, record in zip(found, records, strict=True)]
        logits, best, deltas = self.network(self._batch(images))
        passed("network")
        sides = self._padded(images)
        return [self._detect(logits[i], best[i], deltas[i], sides, record) for i, record in enumerate(records)]

    def _padded(self, images: list[np.ndarray]) -> tuple[int, int]:
        """Return the (height, width) of a batch: the largest sides, rounded up to the divisor."""
        d = self.metadata.divisor
        height, width = (-(-max(image.shape[axis] for image in images) // d) * d for axis in (1, 2))
        if self.metadata.input_size and [height, width] != self.metadata.input_size:
            only = "{} x {}".format(*self.metadata.input_size)
            raise ValueError(f"the file takes images that become {only} pixels, not {height} x {width}")
        return height, width

    def _batch(self, images: list[np.ndarray]) -> np.ndarray:
        """Return images as one batch (N, C, H, W) float32, padded with the pixel mean."""
        padding = np.array(self.metadata.padding, dtype=np.float32)[:, None, None]
        batch = np.empty((len(images), len(padding), *self._padded(images)), dtype=np.float32)
        for target, image in zip(batch, images, strict=True):
            height, width = image.shape[1:]
            target[:, :height, :width] = image
            target[:, height:] = padding
            target[:, :height, width:] = padding
        return batch

    def anchors(self, height: int, width: int) -> list[np.ndarray]:
        """Return the anchors L x (Ri, 4) float32, XYXY, of an input of that size."""
        if (height, width) not in self._anchors:
            if len(self._anchors) > ANCHORS_KEPT:
                self._anchors.clear()
            m, levels = self.metadata, []
            for cell, stride in zip(self._cells, m.strides, strict=True):
                rows, columns = -(-height // stride), -(-width // stride)
                down, right = (height // rows, width // columns) if m.steps_from_map else (stride, stride)
                x = (np.arange(columns, dtype=np.float32) + m.anchor_offset) * right
                y = (np.arange(rows, dtype=np.float32) + m.anchor_offset) * down
                x, y = np.meshgrid(x, y)
                shifts = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
                levels.append((shifts + cell).reshape(-1, 4))
            self._anchors[height, width] = levels
        return self._anchors[height, width]

    def _detect(
        self,
        logits: np.ndarray,
        best: np.ndarray,
        deltas: np.ndarray,
        sides: tuple[int, int],
        record: dict,
    ) -> Found:
        """Return the detections of one image: threshold and best candidates per level, then NMS over all levels."""
        m, t = self.metadata, self.score_thresh
        floor = math.log(t / (1 - t)) if t > 0 else -math.inf
        values, labels, boxes, start = [], [], [], 0
        for anchors in self.anchors(*sides):
            rows = np.flatnonzero(best[start : start + len(anchors)] > floor)
            close = logits[start + rows]
            row, column = np.nonzero(close > floor)
            found = close[row, column]
            order = np.argsort(-found, kind="stable")[: m.topk]
            chosen = rows[row[order]]
            values.append(found[order])
            labels.append(column[order])
            boxes.append(decoded(deltas[start + chosen], anchors[chosen], m.box_weights, m.scale_clamp))
            start += len(anchors)
        order = np.argsort(-np.concatenate(values), kind="stable")
        scores = 1 / (1 + np.exp(-np.concatenate(values)[order].astype(np.float64)))
        kinds, all_boxes = np.concatenate(labels)[order], np.concatenate(boxes)[order]
        groups = np.zeros_like(kinds) if m.class_agnostic else kinds
        if m.soft_nms:
            keep, scores = soft_nms(
                all_boxes,
                scores,
                groups,
                kind=m.soft_nms,
                thresh=m.nms_thresh,
                sigma=m.soft_nms_sigma,
                floor=m.score_thresh,
                most=m.max_detections,
            )
            return self._in_image(all_boxes[keep], scores, kinds[keep], record)
        keep = nms(all_boxes, groups, m.nms_thresh, m.max_detections)
        return self._in_image(all_boxes[keep], scores[keep], kinds[keep], record)

    def _in_image(self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, record: dict) -> Found:
        """Return detections with boxes (D, 4) of the network's input as detections of the image, clipped to it."""
        height, width = record["image"].shape[1:]
        scale = np.array([record["width"] / width, record["height"] / height] * 2, dtype=np.float32)
        ends = np.array([record["width"], record["height"]] * 2, dtype=np.float32)
        boxes = np.clip(boxes * scale, 0, ends).astype(np.float32)
        scores, labels = scores.astype(np.float32), labels.astype(np.int64)
        kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]) & (scores > self.score_thresh)
        if self.thresholds is not None:
            kept &= scores >= self.thresholds[labels]
        return Found(boxes[kept], scores[kept], labels[kept])


FALLBACK_SCORE = 0.5
"""Score threshold of a file without thresholds."""

ANCHORS_KEPT = 32
"""Sizes of the input whose anchors are kept."""


def decoded(deltas: np.ndarray, anchors: np.ndarray, weights: list[float], clamp: float) -> np.ndarray:
    """Return the boxes (D, 4) XYXY of deltas (D, 4) relative to anchors (D, 4).

    Source: Girshick et al. 2014, *R-CNN*, appendix C.
    """
    sides = anchors[:, 2:] - anchors[:, :2]
    shifts, scales = (
        deltas[:, :2] / np.array(weights[:2], np.float32),
        deltas[:, 2:] / np.array(weights[2:], np.float32),
    )
    centres = anchors[:, :2] + 0.5 * sides + shifts * sides
    half = 0.5 * np.exp(np.minimum(scales, np.float32(clamp))) * sides
    return np.concatenate([centres - half, centres + half], axis=1).astype(np.float32)


def _opener(suffix: str) -> Callable[[Path, int | None], tuple[Metadata, Run]]:
    """Return the function that opens files with a suffix."""
    if suffix in (".ts", ".pt2"):
        from retina_plugin.export import torch_files

        return torch_files.open_script if suffix == ".ts" else torch_files.open_program
    return _open_onnx if suffix == ".onnx" else _open_xml


def _open_onnx(path: Path, threads: int | None) -> tuple[Metadata, Run]:
    """Open a file with ONNX Runtime."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        raise ImportError(f"{path} needs ONNX Runtime: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(path, options, providers=_providers(onnxruntime))
    except Exception as error:
        raise ValueError(f"{path} is not an ONNX file, or it is damaged: {str(error).splitlines()[0]}") from error
    text = session.get_modelmeta().custom_metadata_map.get(KEY, "")
    kind = np.float16 if session.get_inputs()[0].type == "tensor(float16)" else np.float32

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Run a batch."""
        one, two, three = (
            x.astype(np.float32, copy=False) for x in session.run(None, {"images": images.astype(kind, copy=False)})
        )
        return one, two, three

    return Metadata.from_json(text, str(path)), run


def _providers(onnxruntime: Any) -> list[str]:
    """Return CUDA, if it is there, and the processor."""
    return [x for x in ("CUDAExecutionProvider", "CPUExecutionProvider") if x in onnxruntime.get_available_providers()]


def _open_xml(path: Path, threads: int | None) -> tuple[Metadata, Run]:
    """Open a file with OpenVINO."""
    try:
        import openvino
    except ModuleNotFoundError as error:
        raise ImportError(f"{path} needs OpenVINO: pip install openvino") from error
    core = openvino.Core()
    try:
        model = core.read_model(path)
    except RuntimeError as error:
        raise ValueError(f"{path} is not an OpenVINO file, or it is damaged: {str(error).splitlines()[0]}") from error
    text = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else ""
    metadata = Metadata.from_json(text, str(path))
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    config["INFERENCE_PRECISION_HINT"] = {"bf16": "bf16", "fp16": "f16"}.get(metadata.precision, "f32")
    if config["INFERENCE_PRECISION_HINT"] == "f16":  # processors without it compute in float32
        config["INFERENCE_PRECISION_HINT"] = "f32"
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    compiled = core.compile_model(model, "CPU", config)
    request = compiled.create_infer_request()

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Run a batch."""
        found = request.infer([images])
        logits, best, deltas = (np.asarray(found[compiled.output(i)], dtype=np.float32) for i in range(3))
        return logits, best, deltas

    return metadata, run
