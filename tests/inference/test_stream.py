"""Predicting on many images: order, broken files, batches, videos."""

import os

import cv2
import numpy as np
import pytest

from retina_plugin.data.pixels import read_image
from retina_plugin.inference.sources import Sources, find_sources
from retina_plugin.inference.stream import Found, Timing, predict_stream


class Predictor:
    """Finds one box whose score is the mean of the image."""

    has_views = False

    def __init__(self):
        self.batches = []

    def map_file(self, file):
        return self.map_array(read_image(file, "BGR", max_pixels=10**6), "")

    def map_array(self, image, name):
        height, width = image.shape[:2]
        return {"height": height, "width": width, "image": image.transpose(2, 0, 1)}

    def run(self, records, passed):
        self.batches.append([tuple(x["image"].shape[1:]) for x in records])
        passed("network")
        return [
            Found(np.array([[0, 0, 5, 5]], np.float32), x["image"].mean(keepdims=True)[0, 0], np.array([0]))
            for x in records
        ]


@pytest.fixture()
def folder(tmp_path):
    sizes = [(40, 60), (60, 40)] * 6
    for i, size in enumerate(sizes):
        cv2.imwrite(str(tmp_path / f"{i:02d}.png"), np.full((*size, 3), i, dtype=np.uint8))
    return tmp_path


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 50])
def test_predictions_come_in_the_order_of_the_images(folder, workers, batch_size):
    predictor, timing = Predictor(), Timing()
    found = list(
        predict_stream(predictor, find_sources([folder]), batch_size=batch_size, workers=workers, timing=timing)
    )
    assert [float(x.found.scores[0]) for x in found] == list(range(12)) and timing.images == 12
    assert [(x.height, x.width) for x in found[:2]] == [(40, 60), (60, 40)]
    assert all(len(batch) <= batch_size for batch in predictor.batches)


def test_images_of_one_shape_share_a_batch(folder):
    predictor = Predictor()
    list(predict_stream(predictor, find_sources([folder]), batch_size=3, workers=0))
    assert sum(len(set(batch)) > 1 for batch in predictor.batches) == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_files_that_cannot_be_read_cost_nothing_else(folder, workers):
    (folder / "03.png").write_bytes(b"")
    (folder / "05.png").write_bytes((folder / "06.png").read_bytes()[:60])
    (folder / "07.png").unlink()
    os.mkfifo(folder / "07.png")
    (folder / "08.png").write_text("this is text")
    cv2.imwrite(str(folder / "09.png"), np.zeros((1001, 1000, 3), np.uint8))
    paths = [str(folder / f"{i:02d}.png") for i in range(12)] + [str(folder / "gone.png")]
    found = list(predict_stream(Predictor(), Sources(tuple(paths), ()), workers=workers))
    assert [x.name for x in found] == paths
    assert [i for i, x in enumerate(found) if x.found is None] == [3, 5, 7, 8, 9, 12]
    assert all(bool(x.error) == (x.found is None) for x in found) and "pixels" in found[9].error


def test_images_of_many_views_go_one_by_one_and_are_not_read_far_ahead(folder):
    predictor = Predictor()
    predictor.has_views, read, most = True, [], 0
    original = predictor.map_file
    predictor.map_file = lambda file: read.append(file) or original(file)
    for i, _ in enumerate(predict_stream(predictor, find_sources([folder]), batch_size=4, workers=4)):
        most = max(most, len(read) - i)
    assert all(len(batch) == 1 for batch in predictor.batches) and len(read) == 12 and most <= 4


def test_nothing_but_broken_files(folder):
    found = list(predict_stream(Predictor(), Sources(("gone.png",), ())))
    assert len(found) == 1 and found[0].error


@pytest.fixture()
def video(tmp_path):
    file = str(tmp_path / "clip.avi")
    writer = cv2.VideoWriter(file, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for i in range(9):
        writer.write(np.full((48, 64, 3), 20 * i, np.uint8))
    writer.release()
    return file


@pytest.mark.parametrize("every, frames", [(1, range(9)), (4, [0, 4, 8])])
def test_frames_of_a_video(video, every, frames):
    found = list(predict_stream(Predictor(), Sources((), (video,)), every=every, batch_size=2))
    assert [x.frame for x in found] == list(frames) and {x.name for x in found} == {video}
    assert [float(x.found.scores[0]) for x in found] == pytest.approx([20 * i for i in frames], abs=3)
    assert found[0].pixels.shape == (48, 64, 3)


def test_a_video_that_cannot_be_read_is_reported(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"no video")
    (found,) = predict_stream(Predictor(), Sources((), (str(tmp_path / "x.mp4"),)))
    assert found.found is None and "not a video" in found.error


def test_a_caller_may_stop_early(video, folder):
    for _ in predict_stream(Predictor(), Sources((), (video,)), batch_size=1):
        break
    for _ in predict_stream(Predictor(), find_sources([folder]), workers=2):
        break


def test_timing_says_where_the_time_went():
    timing = Timing(images=10, seconds={"reading": 1.0, "network": 3.0, "post-processing": 1.0, "other": 0.0})
    assert str(timing) == "2.0 images/s (reading 20 %, network 60 %, post-processing 20 %, other 0 %)"
    assert str(Timing()) == "no images"
