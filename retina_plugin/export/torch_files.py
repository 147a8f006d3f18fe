"""Runs the files of torch itself, TorchScript and torch.export, without Detectron2 and the model's code."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision  # noqa: F401 (suppression inside a file is an operator of torchvision)

from retina_plugin.export.metadata import KEY, Metadata

Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""See :data:`retina_plugin.export.runtime.Run`."""


def open_script(path: Path, threads: int | None) -> tuple[Metadata, Run]:
    """Open a TorchScript file."""
    texts = {KEY: ""}
    try:
        module = torch.jit.load(str(path), map_location="cpu", _extra_files=texts).eval()
    except RuntimeError as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        raise ValueError(f"{path} is not a TorchScript file, or it is damaged: {reason}") from error
    text = texts[KEY]
    return Metadata.from_json(text.decode() if isinstance(text, bytes) else text, str(path)), _in_torch(module, threads)


def open_program(path: Path, threads: int | None) -> tuple[Metadata, Run]:
    """Open a program of torch.export."""
    texts = {KEY: ""}
    try:
        program = torch.export.load(str(path), extra_files=texts)
    except Exception as error:  # whatever a damaged archive causes
        raise ValueError(f"{path} is not a torch.export file, or it is damaged: {error}") from error
    return Metadata.from_json(texts[KEY], str(path)), _in_torch(program.module(), threads)


def _in_torch(module: Callable, threads: int | None) -> Run:
    """Return a function that runs a module of torch on the CPU."""
    if threads:
        torch.set_num_threads(threads)

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Run a batch."""
        with torch.no_grad():
            logits, best, deltas = module(torch.from_numpy(images))
        return logits.numpy(), best.numpy(), deltas.numpy()

    return run
