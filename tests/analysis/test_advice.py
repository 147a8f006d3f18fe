"""Each advice follows from its numbers, and only from them."""

import pytest
from planted import planted

from retina_plugin.analysis.advice import ON_ERRORS, advise
from retina_plugin.analysis.diagnosis import diagnose
from retina_plugin.analysis.slices import Slice


@pytest.mark.parametrize("kind", ["Cls", "Loc", "Bkg", "Miss"])
def test_the_costliest_error_gets_its_advice(kind):
    assert advise(diagnose(planted({kind: 12}), samples=0))[0] == ON_ERRORS[kind]


def test_a_perfect_detector_is_only_told_of_few_objects():
    (few,) = advise(diagnose(planted({}), samples=0))
    assert few == "With fewer than 20 objects in these images, the AP of cat, dog, emu is mostly chance."
    assert advise(diagnose(planted({}, right=90), samples=0)) == []


@pytest.mark.parametrize(
    "aps, rising", [([10, 20, 30], True), ([10, 30, 30.1], False), ([10, 30, 20], False), ([10, 30], False)]
)
def test_ap_that_still_rises(aps, rising):
    lines = [{"bbox/AP": ap, "iteration": i} for i, ap in enumerate(aps)]
    assert any("train longer" in x for x in advise(diagnose(planted({}, right=90), samples=0), metrics=lines)) is rising


@pytest.mark.parametrize(
    "losses, overfits", [([3.0, 1.0, 1.2], True), ([3.0, 1.0, 1.05], False), ([3.0, 2.0, 1.0], False)]
)
def test_a_validation_loss_that_rises(losses, overfits):
    lines = [{"validation/total_loss": loss} for loss in losses]
    assert any("overfits" in x for x in advise(diagnose(planted({}, right=90), samples=0), metrics=lines)) is overfits


@pytest.mark.parametrize(
    "size, recall, told", [("4 to 8", 0.3, True), ("4 to 8", 0.9, False), ("30 to 60", 0.3, False)]
)
def test_small_objects_that_are_not_found(size, recall, told):
    found = diagnose(planted({}, right=90), samples=0)
    nan = float("nan")
    found.slices = [Slice("size of the object, px", size, 30, nan, nan, recall),
                    Slice("size of the object, px", "90 to 100", 30, nan, nan, 1.0)]  # fmt: skip
    found.detections.cfg = {"INPUT": {"MIN_SIZE_TEST": 300}}  # images of 200 px: 8 px become 12
    assert any("TEST.TILES.SIZE" in x for x in advise(found)) is told


def test_a_class_without_objects_is_named():
    detections = planted({}, right=90)
    detections.coco["annotations"] = [x for x in detections.coco["annotations"] if x["category_id"] != 2]
    assert (
        advise(diagnose(detections, samples=0))[-1]
        == "These images have no object of dog: nothing is known about them."
    )
