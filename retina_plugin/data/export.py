"""Writes a dataset in a different format, with a card; the images stay where they are."""

import os
from dataclasses import replace
from pathlib import Path

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.formats import FORMAT_REGISTRY, AnnotationFormat

OURS = "Written by retina_plugin."


def writable() -> list[str]:
    """Return the names of the formats that can be written."""
    return [name for name, kind in FORMAT_REGISTRY if kind.write is not AnnotationFormat.write]


def write_dataset(
    card: DatasetCard,
    records: dict[str, list[dict]],
    folder: str | os.PathLike,
    *,
    name: str,
    format: str = "coco",  # noqa: A002 (a card's key)
) -> Path:
    """Write cleaned records and a card to a folder that is empty or does not exist.

    Args:
        card: of the dataset that the records come from.
        records: by split, Detectron2's dataset dicts with boxes XYXY_ABS.
        folder: created if it does not exist.
        name: of the new dataset.
        format: one of :func:`writable`.

    Returns:
        The path of the card.

    Raises:
        FileExistsError: the folder is not empty.
        ValueError: the format cannot be written, or the folder cannot be written to.
    """
    if format not in writable():
        raise ValueError(f"format {format!r} cannot be written; known: {', '.join(writable())}")
    folder = Path(folder).resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if there := sorted(file.name for file in folder.iterdir()):
            raise FileExistsError(f"{folder} already contains {', '.join(there[:5])}; choose a different --output")
        splits = FORMAT_REGISTRY.get(format)().write(records, card.classes, folder)
        written = replace(
            card,
            name=name,
            format=format,
            root=str(folder),
            splits={split: found[0] if len(found) == 1 else found for split, found in splits.items()},
            generator=None,
            outside=True,
            left_out={},
            file=folder / f"{name}.yaml",
        )
        written.file.write_text(f"# {OURS}\n{written.text()}", encoding="utf-8")
    except FileExistsError:
        raise
    except OSError as error:
        raise ValueError(f"{folder} cannot be written: {error.strerror}") from error
    return written.file
