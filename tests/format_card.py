"""Functions that the tests of the formats share: read a source through a card and check its account."""

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.files import Listing
from retina_plugin.data.formats import FORMAT_REGISTRY
from retina_plugin.data.load import load_split


def read(root, name, source, classes=("cat", "dog"), split="all"):
    """Load a card with one source; check that every box and image is either used or counted by a problem."""
    card = DatasetCard("pets", name, list(classes), {split: source}, str(root), "none", "none")
    result = load_split(card, split)
    assert result.boxes == result.boxes_used + sum(problem.boxes for problem in result.problems)
    assert result.images == len(result.records) + sum(problem.images for problem in result.problems)
    return result


def recognise(root, name):
    """Return what a format finds in a folder."""
    return FORMAT_REGISTRY.get(name)().recognise(Listing(root))


def read_found(root, name):
    """Return {split: {image: [(class, box)]}} of everything that a format finds in a folder, and the problems."""
    found = recognise(root, name)
    boxes, problems = {}, []
    for split, sources in found.splits.items():
        result = read(root, name, sources, found.classes, split)
        boxes[split] = {
            record["image_id"]: [(found.classes[x["category_id"]], x["bbox"]) for x in record["annotations"]]
            for record in result.records
        }
        problems += result.problems
    return boxes, problems


def said(problems):
    """Return one line per problem, starting with its kind."""
    return [f"{problem.kind.name} {problem}" for problem in problems]
