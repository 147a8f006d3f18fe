"""Descriptions of images: one per image whatever the batches, alike for alike images."""

import cv2
import numpy as np
import pytest
from exported import exact_predictor, photos, small_checkpoint

from retina_plugin.inference.embedding import EmbeddingPredictor
from retina_plugin.inference.sources import find_sources
from retina_plugin.inference.stream import predict_stream

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return exact_predictor(small_checkpoint(tmp_path_factory.mktemp("embedding")))


def described(predictor, folder, batch):
    one = EmbeddingPredictor(predictor)
    found = list(predict_stream(one, find_sources([folder]), batch_size=batch))
    assert all(x.found is not None for x in found) and set(one.features) == {x.name for x in found}
    return one.features


def test_batches_change_nothing(predictor, tmp_path):
    photos(tmp_path / "photos", [(64, 64)] * 5)
    alone, together = (described(predictor, tmp_path / "photos", batch) for batch in (1, 3))
    for name, feature in alone.items():
        np.testing.assert_allclose(together[name], feature, atol=1e-4)


def test_a_slightly_brighter_copy_is_nearer_than_a_different_image(predictor, tmp_path):
    first, second = photos(tmp_path / "photos", [(64, 64)] * 2)
    copy = str(tmp_path / "photos/copy.png")
    cv2.imwrite(copy, np.clip(cv2.imread(first).astype(int) + 3, 0, 255).astype(np.uint8))
    found = described(predictor, tmp_path / "photos", 2)

    def distance(a, b):
        return np.linalg.norm(found[a] - found[b])

    assert distance(first, copy) < 0.5 * distance(first, second)
