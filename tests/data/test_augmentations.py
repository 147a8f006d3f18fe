"""torchvision's operations on samples: boxes follow the image, random numbers follow the sample, mistakes are named."""

import numpy as np
import pytest
import torch
from support import BASE, TINY

from detectron2.structures import Boxes, Instances

from retina_plugin import load_config
from retina_plugin.data.augmentations import NAMES, TorchvisionAugmentations


def sample(height=40, width=60, boxes=((10, 5, 30, 25), (40, 10, 60, 40)), crowds=None):
    """A sample of the mapper: white boxes on black."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    for x1, y1, x2, y2 in boxes:
        image[:, y1:y2, x1:x2] = 255
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.arange(len(boxes))
    record = {"image": image, "instances": instances, "file_name": "x.png"}
    if crowds is not None:
        record["ignore_boxes"] = torch.tensor(crowds, dtype=torch.float32)
    return record


def extent(image):
    """The box around what is white."""
    y, x = (image[0] > 127).nonzero(as_tuple=True)
    return [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]


@pytest.mark.parametrize(
    "operation",
    [
        {"RandomHorizontalFlip": {"p": 1.0}},
        {"RandomVerticalFlip": {"p": 1.0}},
        {"RandomAffine": {"degrees": 0, "translate": [0.1, 0.1]}},
        {"ScaleJitter": {"target_size": [80, 120]}},
        {"Resize": {"size": [80, 120]}},
        {"RandomZoomOut": {"p": 1.0}},
    ],
)
def test_boxes_follow_the_image(operation):
    np.random.seed(3)
    found = TorchvisionAugmentations([operation])(sample(boxes=[(20, 10, 40, 30)]))
    box = found["instances"].gt_boxes.tensor[0].tolist()
    assert np.abs(np.array(box) - extent(found["image"])).max() <= 2
    assert found["instances"].image_size == tuple(found["image"].shape[1:]) and found["file_name"] == "x.png"


def test_boxes_that_are_cropped_away_take_their_classes_along():
    found = TorchvisionAugmentations([{"CenterCrop": {"size": [40, 20]}}])(sample())  # columns 20 to 40
    assert found["instances"].gt_boxes.tensor.tolist() == [[0, 5, 10, 25]]
    assert found["instances"].gt_classes.tolist() == [0]


def test_crowds_follow_and_an_image_without_objects_is_augmented():
    found = TorchvisionAugmentations([{"RandomHorizontalFlip": {"p": 1.0}}])(sample(boxes=(), crowds=[[0, 0, 10, 40]]))
    assert found["ignore_boxes"].tolist() == [[50, 0, 60, 40]] and len(found["instances"]) == 0


def test_random_numbers_follow_numpys_and_leave_torchs_alone():
    augment = TorchvisionAugmentations([{"RandomAffine": {"degrees": 30}}, "RandomPhotometricDistort"])

    def draw(seed, torch_seed):
        np.random.seed(seed)
        torch.manual_seed(torch_seed)
        image = augment(sample())["image"]
        return image, torch.rand(1)

    (a, after), (b, other), (c, _) = draw(0, 1), draw(0, 2), draw(1, 1)
    assert torch.equal(a, b) and not torch.equal(a, c)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1)) and not torch.equal(after, other)


def test_operations_that_choose_among_others():
    inner = [{"RandomHorizontalFlip": {"p": 1.0}}, {"RandomVerticalFlip": {"p": 1.0}}]
    for name in ("RandomChoice", "RandomOrder", "Compose"):
        found = TorchvisionAugmentations([{name: {"transforms": inner}}])(sample())
        assert len(found["instances"]) == 2


@pytest.mark.parametrize(
    "operations, message",
    [
        (["RandomGreyscale"], "did you mean RandomGrayscale?"),
        ([{"RandomAffine": {"angle": 3}}], "it is RandomAffine(degrees"),
        ([{"RandomAffine": 3}], "are a mapping"),
        ([{"RandomApply": {"transforms": ["Nothing"]}}], "no operation 'Nothing'"),
    ],
)
def test_mistakes_are_named_when_the_config_is_read(operations, message):
    with pytest.raises(ValueError) as error:
        load_config(BASE, [*TINY, "INPUT.AUGMENTATIONS", operations])
    assert "INPUT.AUGMENTATIONS" in str(error.value) and message in str(error.value)


@pytest.mark.parametrize("value", ["RandomGrayscale", [3], [{"a": {}, "b": {}}], [["RandomGrayscale"]]])
def test_what_is_no_list_of_operations_is_refused(value):
    with pytest.raises(ValueError, match="a list of names"):
        load_config(BASE, [*TINY, "INPUT.AUGMENTATIONS", value])


def test_detectron2s_mapper_has_none():
    with pytest.raises(ValueError, match="no effect with INPUT.MAPPER detectron2"):
        load_config(BASE, [*TINY, "INPUT.AUGMENTATIONS", ["RandomGrayscale"], "INPUT.MAPPER", "detectron2"])


def test_an_operation_that_changes_the_type_is_named():
    with pytest.raises(ValueError, match="ToDtype made an image of float32"):
        TorchvisionAugmentations([{"ToDtype": {"dtype": torch.float32, "scale": True}}])(sample())


def test_every_operation_without_arguments_runs_or_is_refused_by_name():
    ran = 0
    for name in NAMES:
        try:
            found = TorchvisionAugmentations([name])(sample())
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
            assert str(error), name
            continue
        ran += 1
        assert found["image"].dtype == torch.uint8 and len(found["instances"]) <= 2
    assert ran >= 20


@pytest.mark.slow
def test_training_uses_them_and_evaluation_does_not(small_digits, tmp_path):
    from support import DIGITS_CONFIG, SMALL

    from retina_plugin.data.mapper import build_mapper

    keys = ["INPUT.AUGMENTATIONS", [{"RandomGrayscale": {"p": 1.0}}], "OUTPUT_DIR", str(tmp_path)]
    cfg = load_config(DIGITS_CONFIG, [*SMALL, *keys])
    from detectron2.data import DatasetCatalog

    record = DatasetCatalog.get("digits_train")[0]
    grey, coloured = (build_mapper(cfg, is_train=x)(dict(record))["image"].float() for x in (True, False))
    assert (grey[0] - grey[1]).abs().max() <= 1 and (coloured[0] - coloured[1]).abs().max() > 1
