"""Which parts of an image are looked at, and what the network gets of them."""

import itertools

import cv2
import numpy as np
import pytest
import torch
from support import tiny_cfg

from retina_plugin.data.image_views import VIEWS, ViewMapper, Views
from retina_plugin.data.mapper import build_mapper


@pytest.mark.parametrize("height, width", [(300, 500), (100, 100), (101, 99), (50, 1000), (640, 640)])
@pytest.mark.parametrize("tile, overlap", [(100, 0.2), (128, 0.0), (99, 0.9), (64, 0.5)])
def test_tiles_cover_the_image_have_full_size_and_overlap(height, width, tile, overlap):
    views = Views(((64, 64),), tile=tile, overlap=overlap, whole=False)
    seen = np.zeros((height, width), dtype=int)
    regions = views.regions(height, width)
    for left, top, right, bottom in regions:
        assert (right - left, bottom - top) == (min(tile, width), min(tile, height))
        seen[top:bottom, left:right] += 1
    assert seen.min() >= 1 and len(set(regions)) == len(regions)
    for low, high in ((0, 2), (1, 3)):
        edges = sorted({(r[low], r[high]) for r in regions})
        assert all(a_end - b_start >= int(tile * overlap) - 1 for (_, a_end), (b_start, _) in itertools.pairwise(edges))


def test_the_whole_image_is_looked_at_once_if_it_is_no_larger_than_a_tile():
    views = Views(((64, 64),), tile=100)
    assert views.regions(80, 100) == [(0, 0, 100, 80)]
    assert views.regions(80, 101)[-1] == (0, 0, 101, 80)


def test_an_image_smaller_than_a_tile_has_the_scale_of_a_tile_if_only_tiles_are_looked_at():
    small, thin = (0, 0, 60, 50), (0, 0, 100, 20)
    tiles = Views(((200, 400), (0, 400)), tile=100, whole=False)
    assert tiles.sizes_of(small) == [(100, 400), (0, 400)] and tiles.sizes_of(thin) == [(40, 400), (0, 400)]
    assert tiles._replace(whole=True).sizes_of(small) == list(tiles.sizes)


def test_in_evaluation_an_image_has_the_scale_that_tiles_have_in_training(image):
    cfg = tiny_cfg("INPUT.TILES.SIZE", 400, "INPUT.MIN_SIZE_TRAIN", (200,), "INPUT.RANDOM_FLIP", "none")
    trained = build_mapper(cfg, is_train=True)(image)["image"]
    seen = ViewMapper.from_config(cfg, Views(((200, 400),), tile=400, whole=False))(image)["image"]
    assert trained.shape == seen.shape == (3, 60, 100)


def test_without_keys_there_are_no_views():
    assert Views.from_config(tiny_cfg()) is None


def test_keys_of_detectron2_name_scales_and_mirroring():
    cfg = tiny_cfg("TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", [32, 64], "TEST.AUG.MAX_SIZE", 100)
    assert Views.from_config(cfg) == Views(((32, 100), (64, 100)), flip=True)


@pytest.fixture()
def image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (120, 200, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    return {"file_name": str(tmp_path / "a.png"), "height": 120, "width": 200, "image_id": 1, "annotations": []}


def test_one_view_has_the_pixels_of_the_usual_mapper(image):
    cfg = tiny_cfg("INPUT.MIN_SIZE_TEST", 64, "INPUT.MAX_SIZE_TEST", 200)
    usual = build_mapper(cfg, is_train=False)(image)
    found = ViewMapper.from_config(cfg, Views(((64, 200),)))(image)
    assert torch.equal(found["image"], usual["image"]) and len(found[VIEWS]) == 1 and "annotations" not in found


def test_mirrored_and_scaled_copies_and_tiles_are_those_of_the_image(image):
    cfg = tiny_cfg("INPUT.FORMAT", "RGB")
    found = ViewMapper.from_config(cfg, Views(((50, 400), (100, 400)), flip=True, tile=100, whole=False))(image)[VIEWS]
    assert len(found) == 2 * 3 * 2 * 2  # tiles, scales, mirrored
    pixels = cv2.imread(image["file_name"])[:, :, ::-1]
    at_scale_1 = [x for x in found if x["image"].shape == (3, 100, 100)]
    for view in at_scale_1:
        left, top, right, bottom = view["region"]
        part = pixels[top:bottom, left:right][:, :: -1 if view["flipped"] else 1]
        assert np.array_equal(view["image"].permute(1, 2, 0).numpy(), part)
    assert len(at_scale_1) == len(found) / 2 and {x["image"].shape[-1] for x in found} == {50, 100}
