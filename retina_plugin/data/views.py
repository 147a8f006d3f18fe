"""Views of registered datasets by name: ``digits_train[3, 7]``, ``coco_2017_train[dog, dog=wolf]*0.5``."""

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
    """A subset or weighting of a dataset, as its name describes it.

    Args:
        base: name of a registered dataset.
        classes: (name in the view, name in the base) in order; several may share a name in the view. Empty for all
            classes under their own names.
        repeat: number of times that an image is drawn per epoch.
    """

    base: str
    classes: tuple[tuple[str, str], ...]
    repeat: float


def view_of(name: str) -> View | None:
    """Parse the name of a view; None if it is not one.

    Example:
        >>> view_of("coco_val[dog, dog=wolf]*2")
        View(base='coco_val', classes=(('dog', 'dog'), ('dog', 'wolf')), repeat=2.0)
        >>> view_of("coco_val") is None
        True

    Raises:
        ValueError: a class has no name, the same class of the base is named twice, or images are repeated 0 times.
    """
    match = NAME.fullmatch(name)
    if match is None or (match["classes"] is None and match["repeat"] is None):
        return None
    base = match["base"].strip()
    pairs = [_pair(word) for word in match["classes"].split(",")] if match["classes"] is not None else []
    if not all(here and theirs for here, theirs in pairs):
        raise ValueError(f"{name}: name the classes between the brackets, as in {base}[cat, dog=wolf]")
    theirs = [pair[1] for pair in pairs]
    if twice := sorted({one for one in theirs if theirs.count(one) > 1}):
        raise ValueError(f"{name}: the class {twice[0]!r} is named twice")
    repeat = float(match["repeat"] or 1)
    if repeat <= 0:
        raise ValueError(f"{name}: repeated {repeat:g} times, no image would ever be drawn")
    return View(base, tuple(pairs), repeat)


def _pair(word: str) -> tuple[str, str]:
    """Split "here=theirs" into the names of a class in the view and in the base; "here" alone stands for both."""
    here, equal, theirs = word.partition("=")
    return here.strip(), (theirs if equal else here).strip()


def register_view(name: str) -> None:
    """Register the dataset that a name describes, if it describes one and its base is registered.

    Raises:
        ValueError: the name has a class that the base does not have, or cannot be parsed.
    """
    if name in DatasetCatalog or (view := view_of(name)) is None or view.base not in DatasetCatalog:
        return
    known = class_names(view.base, read=True) or []
    chosen = view.classes or tuple((one, one) for one in known)
    if unknown := [theirs for _, theirs in chosen if theirs not in known]:
        near = nearest(unknown[0], known)
        hint = f"; did you mean {near!r}?" if near else "."
        rest = ", ..." if len(known) > 20 else ""
        raise ValueError(
            f"{name}: {view.base} has no class {unknown[0]!r}{hint} Its classes are {', '.join(known[:20])}{rest}"
        )
    names = list(dict.fromkeys(here for here, _ in chosen))
    labels = {known.index(theirs): names.index(here) for here, theirs in chosen}
    DatasetCatalog.register(name, lambda: _records(name, view, labels))
    MetadataCatalog.get(name).set(thing_classes=names, evaluator_type="coco", view_of=view.base)


def _records(name: str, view: View, labels: dict[int, int]) -> list[dict]:
    """Return the records of the base with the labels of the view.

    Images without a remaining object are kept: a model can have false positives on them.

    Args:
        name: of the view, for the log.
        view: what it describes.
        labels: from a label of the base to that of the view.
    """
    base = result_of(view.base).records
    records = []
    for record in base:
        changed = dict(record)
        if "annotations" in record:
            kept = [x for x in record["annotations"] if x["category_id"] in labels]
            changed["annotations"] = [{**x, "category_id": labels[x["category_id"]]} for x in kept]
        if view.repeat != 1:
            changed["repeat"] = view.repeat
        records.append(changed)
    boxes, kept_boxes = (sum(len(x.get("annotations", ())) for x in part) for part in (base, records))
    images = sum(map(has_object, records))
    logger.info(
        "%s: %d of %d boxes of %s, on %d of its %d images", name, kept_boxes, boxes, view.base, images, len(records)
    )
    return records
