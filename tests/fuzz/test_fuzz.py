"""Changed files of every kind are read or refused.

This is a short, reproducible run of the fuzzer; ``make soak`` runs it for long.
"""

import os

import pytest
from fuzz import valid
from fuzz.changes import BYTE_KINDS, ODD, SPECIAL, Change, changed_bytes
from fuzz.targets import (
    TARGETS,
    HangError,
    ap_of_truth,
    check_records,
    folder_of,
    inputs,
    limited,
    refused,
    run_card,
    run_folder,
    run_image,
    run_yaml,
)
from hypothesis import HealthCheck, given, seed, settings

from retina_plugin.data.discover import find_card

SHORT = 2000
"""Number of inputs of all targets."""


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_changed_files_are_read_or_refused(name):
    run, share = TARGETS[name]

    @settings(max_examples=int(SHORT * share), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @seed(0)
    @given(inputs(run))
    def explore(arguments):
        run(*arguments)

    explore()


FOUND = [(run_folder, ("coco", [Change("special", 0, 0.0, SPECIAL.index(kind))])) for kind in SPECIAL] + [
    (run_card, ("sources", [Change("flip", 0, 0.5, 0)])),  # `images: /` listed the whole disk
    (run_card, ("parts", [Change("tokens", 0, 0.1, len(ODD) - 1)])),  # names of 5,000 characters
    (run_yaml, ("configs/digits/quickstart.yaml", [Change("token", 0, 0.16, len(ODD) - 1)])),
]
"""Targets with arguments that once failed."""


@pytest.mark.parametrize("run, arguments", FOUND, ids=[f"{run.__name__} {i}" for i, (run, _) in enumerate(FOUND)])
def test_inputs_that_once_failed(run, arguments):
    run(*arguments)


@pytest.mark.parametrize("base", valid.folders())
def test_the_unchanged_folders_are_read_completely(base):
    with folder_of(valid.folders()[base], []) as folder:
        card = find_card(folder / valid.WRITTEN if base.startswith(valid.WRITTEN) else folder)
        check_records(card)
        records = [record for split in card.splits for record in card.load(split)]
    if "csv" not in base and base != "darknet":  # those do not list the image without objects
        assert len({os.path.basename(record["file_name"]) for record in records}) == len(valid.SIZES)
    assert sum(len(record["annotations"]) for record in records) >= 3


@pytest.mark.parametrize("evaluator", ["hotcoco", "detectron2"])
@pytest.mark.parametrize("base", valid.folders())
def test_detections_that_equal_the_boxes_have_ap_100(base, evaluator):
    with folder_of(valid.folders()[base], []) as folder:
        card = find_card(folder / valid.WRITTEN if base.startswith(valid.WRITTEN) else folder)
        found = [ap_of_truth(card, split, evaluator) for split in card.splits]
    assert min(ap for ap in found if ap is not None) > 99.99


@pytest.mark.parametrize("name", valid.images())
def test_the_unchanged_images_are_read(name):
    run_image(name, [])


def test_every_kind_of_change_has_an_effect():
    data = valid.folders()["coco"]["train.json"]
    for kind in BYTE_KINDS:
        changes = [Change(kind, 0, where / 7, what) for where in range(7) for what in range(len(ODD))]
        assert any(changed_bytes(data, change) != data for change in changes), kind


def test_an_unexpected_error_and_a_hang_are_found():
    with pytest.raises(KeyError):
        refused(lambda: {}["x"])
    with pytest.raises(HangError), limited(0.05):
        while True:
            pass
    assert refused(lambda: int("x")) is None
