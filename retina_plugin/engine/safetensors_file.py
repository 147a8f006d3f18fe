"""Checkpoints as safetensors, a format that cannot hold code, with the description of the model in the metadata."""

import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from retina_plugin.config import INFO_KEY


def write_safetensors(checkpoint: dict, file: str | os.PathLike) -> None:
    """Write the weights and the description of a checkpoint atomically.

    Args:
        checkpoint: as :func:`retina_plugin.engine.checkpoint.read_checkpoint` returns it.
        file: to write.
    """
    file = Path(file)
    weights = {name: tensor.contiguous() for name, tensor in checkpoint["model"].items()}
    metadata = {"format": "pt", INFO_KEY: json.dumps(checkpoint[INFO_KEY])}
    unfinished = file.with_name(f"{file.name}.tmp")
    save_file(weights, unfinished, metadata=metadata)
    unfinished.replace(file)


def read_safetensors(file: Path) -> dict:
    """Read a file: {"model": tensors by name}, and the description if the plugin wrote it.

    Raises:
        ValueError: it is not a safetensors file, or it is damaged.
    """
    try:
        with safe_open(file, framework="pt") as stream:
            loaded: dict = {"model": {name: stream.get_tensor(name) for name in stream.keys()}}  # noqa: SIM118
            described = (stream.metadata() or {}).get(INFO_KEY)
        if described:
            loaded[INFO_KEY] = json.loads(described)
        return loaded
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{file} is not a safetensors file, or it is damaged: {error}") from error
