"""Reading one source of a format through a card, with the account checked: what tests of the formats share."""

from retina_plugin.data.card import DatasetCard
from retina_plugin.data.files import Listing
from retina_plugin.data.formats import FORMAT_REGISTRY
from retina_plugin.data.load import load_split


def read(root, name, source, classes=("cat", "dog"), split="all"):
    """What a card with this source gives; every box and image of the files is used, or lost by a problem that counts it."""
    card = DatasetCard("pets", name, list(classes), {split: source}, str(root), "none", "none")
    result = load_split(card, split)
    assert result.boxes == result.boxes_used + sum(problem.boxes for problem in result.problems)
    assert result.images == len(result.records) + sum(problem.images for problem in result.problems)
    return result


def recognise(root, name):
    """What a format finds in a folder."""
    return FORMAT_REGISTRY.get(name)().recognise(Listing(root))


def read_found(root, name):
    """{split: {image: [(class, box)]}} of all that a format finds in a folder, and the problems."""
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
    """The lines of problems, with the kind of each."""
    return [f"{problem.kind.name} {problem}" for problem in problems]
