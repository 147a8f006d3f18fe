"""The dataset that somebody means, however they name it."""

import os
from pathlib import Path

from retina_plugin.data.card import DatasetCard, card_folders, is_card
from retina_plugin.data.detect import detect_dataset


def find_card(data: str | os.PathLike, *, format: str | None = None) -> DatasetCard:
    """A card by its path, by the name of one in a ``datasets`` folder, or made for a folder that has none.

    Args:
        data: a folder or file of data, a card, or a name such as "digits".
        format: of the annotations, if ``data`` is a folder with several.

    Raises:
        FileNotFoundError: there is no such thing.
        ValueError: it is no dataset.
    """
    path = Path(data)
    if path.is_file() and path.suffix in (".yaml", ".yml") and is_card(path):
        return DatasetCard.from_file(path)
    if not path.exists():
        for folder in card_folders():
            if (file := folder / f"{data}.yaml").is_file():
                return DatasetCard.from_file(file)
    return detect_dataset(path, format=format)
