"""A model repository of NVIDIA Triton around an exported file."""

import shutil
from pathlib import Path

from retina_plugin.export.metadata import Metadata

BACKENDS = {
    ".onnx": ("onnxruntime", "model.onnx"),
    ".xml": ("openvino", "model.xml"),
    ".ts": ("pytorch", "model.pt"),
}
"""Backend and file name that Triton expects, by the suffix of the exported file."""

RAW = {"logits": "-1, -1", "best": "-1", "deltas": "-1, 4"}
"""Shapes of the outputs of a file without post-processing, of one image."""

CLASSES = "classes.txt"

MOST = 8
"""Largest batch that Triton forms."""


def write_repository(file: Path, metadata: Metadata, folder: Path, name: str) -> Path:
    """Copy an exported file into a model repository, with its ``config.pbtxt`` and a list of the classes.

    Args:
        file: of :func:`retina_plugin.export.writers.write_onnx` or another kind that Triton runs.
        metadata: of the file.
        folder: the repository; created if it does not exist.
        name: of the model, a folder in the repository.

    Raises:
        ValueError: Triton has no backend for the kind of file.
    """
    if file.suffix not in BACKENDS:
        raise ValueError(f"Triton has no backend for {file.suffix} files; it has {', '.join(BACKENDS)}")
    backend, model_file = BACKENDS[file.suffix]
    version = folder / name / "1"
    version.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, version / model_file)
    if file.suffix == ".xml":
        shutil.copyfile(file.with_suffix(".bin"), version / "model.bin")
    (folder / name / CLASSES).write_text("".join(f"{x}\n" for x in metadata.class_names), encoding="utf-8")
    config = folder / name / "config.pbtxt"
    config.write_text(configuration(metadata, name, backend), encoding="utf-8")
    return config


def configuration(metadata: Metadata, name: str, backend: str) -> str:
    """Return the text of a ``config.pbtxt``."""
    channels, whole = len(metadata.padding), metadata.nms_inside
    first = "1, " if whole else ""  # without batching the batch is a dimension of its own
    shapes = {"boxes": "-1, 4", "scores": "-1", "labels": "-1"} if whole else RAW
    lines = []
    for output, shape in shapes.items():
        kind = "TYPE_INT64" if output == "labels" else "TYPE_FP32"
        names = f' label_filename: "{CLASSES}"' if output in ("labels", "logits") else ""
        lines.append(f'  {{ name: "{output}" data_type: {kind} dims: [ {shape} ]{names} }}')
    outputs = ",\n".join(lines)
    return (
        f"# Written by `retina export`. Input: {metadata.image_format} pixels 0-255, resized so that the shorter side "
        f"is {metadata.shorter}\n# (the longer at most {metadata.longest}) and padded to multiples of "
        f"{metadata.divisor} with {metadata.padding}.\n"
        f'name: "{name}"\nbackend: "{backend}"\nmax_batch_size: {0 if whole else MOST}\n'
        f'input [\n  {{ name: "images" data_type: TYPE_FP32 dims: [ {first}{channels}, -1, -1 ] }}\n]\n'
        f"output [\n{outputs}\n]\n" + ("" if whole else "dynamic_batching { }\n")
    )
