"""Parts and mixtures of registered datasets, by their names: ``digits_train[3, 7]``, ``coco_2017_train[dog, dog=wolf]*0.5``."""

import logging
import re
from typing import NamedTuple

from detectron2.data import DatasetCatalog, MetadataCatalog

from retina_plugin.config.key import nearest
from retina_plugin.config.resolve import class_names
from retina_plugin.data.catalog import has_object, result_of

logger = logging.getLogger(__name__)

NAME = re.compile(r"(?P<base>[^\[\]*]+)(?:\[(?P<classes>[^\[\]]*)\])?(?:\*(?P<repeat>\d+(?:\.\d+)?))?")


class View(NamedTuple):
    """What a name says.

    Args:
        base: name of a registered dataset.
        classes: (name here, name in the base) in order; several may have one name here. Empty: all, under their own names.
        repeat: how often an image comes where others come once.
    """

    base: str
    classes: tuple[tuple[str, str], ...]
    repeat: float


def view_of(name: str) -> View | None:
    """Read a name; None for one that is no view.

    Example:
        >>> view_of("coco_val[dog, dog=wolf]*2")
        View(base='coco_val', classes=(('dog', 'dog'), ('dog', 'wolf')), repeat=2.0)
        >>> view_of("coco_val") is None
        True

    Raises:
        ValueError: a class has no name, the same class of the base is named twice, or an image would never come.
    """
    match = NAME.fullmatch(name)
    if match is None or (match["classes"] is None and match["repeat"] is None):
        return None
    words = [word.strip() for word in (match["classes"] or "").split(",")]
    pairs = tuple(
        (here.strip(), (theirs if equal else here).strip())
        for here, equal, theirs in (word.partition("=") for word in words)
        if here.strip() or theirs
    )
    if match["classes"] is not None and (
        not pairs or len(pairs) != len(words) or not all(here and theirs for here, theirs in pairs)
    ):
        raise ValueError(f"{name}: name the classes between the brackets, as in {match['base'].strip()}[cat, dog=wolf]")
    theirs = [pair[1] for pair in pairs]
    if twice := sorted({one for one in theirs if theirs.count(one) > 1}):
        raise ValueError(f"{name}: the class {twice[0]!r} is named twice")
    repeat = float(match["repeat"] or 1)
    if repeat <= 0:
        raise ValueError(f"{name}: times {repeat:g} no image would ever come")
    return View(match["base"].strip(), pairs, repeat)


def register_view(name: str) -> None:
    """Register the dataset that a name describes, if it describes one and its base is registered.

    Raises:
        ValueError: it names a class that the base does not have, or cannot be read.
    """
    if name in DatasetCatalog or (view := view_of(name)) is None or view.base not in DatasetCatalog:
        return
    known = class_names(view.base, read=True) or []
    chosen = view.classes or tuple((one, one) for one in known)
    if unknown := [theirs for _, theirs in chosen if theirs not in known]:
        near = nearest(unknown[0], known)
        raise ValueError(
            f"{name}: {view.base} has no class {unknown[0]!r}"
            + (f"; did you mean {near!r}?" if near else "")
            + f" It has {', '.join(known[:20])}{', ...' if len(known) > 20 else ''}"
        )
    names = list(dict.fromkeys(here for here, _ in chosen))
    labels = {known.index(theirs): names.index(here) for here, theirs in chosen}
    DatasetCatalog.register(name, lambda: _records(name, view, labels))
    MetadataCatalog.get(name).set(thing_classes=names, evaluator_type="coco", view_of=view.base)


def _records(name: str, view: View, labels: dict[int, int]) -> list[dict]:
    """The records of the base with other labels; images stay that have no object left, for a model can be wrong on them."""
    records, boxes, kept = [], 0, 0
    for record in result_of(view.base).records:
        if "annotations" in record:
            annotations = [
                {**x, "category_id": labels[x["category_id"]]}
                for x in record["annotations"]
                if x["category_id"] in labels
            ]
            boxes, kept = boxes + len(record["annotations"]), kept + len(annotations)
            record = {**record, "annotations": annotations}
        records.append({**record, "repeat": view.repeat} if view.repeat != 1 else record)
    logger.info(
        "%s: %d of %d boxes of %s, on %d of its %d images",
        name,
        kept,
        boxes,
        view.base,
        sum(map(has_object, records)),
        len(records),
    )
    return records
