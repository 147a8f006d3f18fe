"""Drafts of plans with facts whose answers are known, for the tests of the rules."""

import dataclasses

from support import BASE, TINY

from retina_plugin import load_config
from retina_plugin.config import all_keys, get_key
from retina_plugin.plan.budget import Budget
from retina_plugin.plan.draft import Draft
from retina_plugin.plan.fingerprint import Fingerprint
from retina_plugin.plan.symmetry import Symmetry

FACTS = Fingerprint(
    images=200,
    height=480,
    width=640,
    smallest=(480, 640),
    largest=(480, 640),
    shorter=(480,) * 5,
    objects=1000,
    classes={"a": 600, "b": 400},
    images_with={"a": 150, "b": 100},
    empty=0.0,
    per_image=(1, 3, 5, 7, 9),
    most=12,
    sides=(48, 60, 80, 100, 120),
    shares=(0.1, 0.125, 0.1667, 0.2083, 0.25),
    longest=(60, 70, 90, 120, 150),
    ratios=(0.8, 0.9, 1.0, 1.1, 1.2),
    crowded=0.0,
    val_images=50,
)


def settled(**changes):
    cfg = load_config(BASE, TINY)
    values = {key: get_key(cfg, key) for key in all_keys(cfg)}
    values |= {
        "INPUT.MIN_SIZE_TRAIN": [320],
        "INPUT.MAX_SIZE_TRAIN": 427,
        "INPUT.MIN_SIZE_TEST": 320,
        "INPUT.MAX_SIZE_TEST": 427,
        "SOLVER.EPOCHS": 24,
        "SOLVER.IMS_PER_BATCH": 8,
        "SOLVER.REFERENCE_BATCH_SIZE": 8,
    }
    return values | {"DATALOADER.FILTER_EMPTY_ANNOTATIONS": False, **changes}


def record(*boxes, size=(480, 640)):
    return {"height": size[0], "width": size[1], "annotations": [{"bbox": box, "category_id": 0} for box in boxes]}


def draft(*records, budget=None, given=(), speed=None, keys=(), **facts):
    some = list(records) or [record([100, 100, 180, 180])]
    facts = dataclasses.replace(FACTS, **facts)
    if facts.shares == FACTS.shares:  # those of images of equal size
        facts = dataclasses.replace(facts, shares=tuple(x / min(facts.height, facts.width) for x in facts.sides))
    facts = dataclasses.replace(facts, shorter=(min(facts.height, facts.width),) * 5)
    found = Draft(facts, some, budget or Budget(), settled(**dict(keys)))
    found.given, found.speed, found.test_images, found.last_images = frozenset(given), speed, 50, 50
    return found


def symmetry(mirrored, upside_down=0.3, turned=0.3, p=0.005, objects=500, worst=0.0):
    values = (mirrored, upside_down, turned)
    names = ("mirrored", "upside_down", "turned")
    return {name: Symmetry(value, p, objects, worst) for name, value in zip(names, values, strict=True)}


def keys_of(choices):
    return {key: value for choice in choices for key, value in choice.settings.items()}
