"""Parity with Detectron2's and torchvision's RetinaNet, and edge cases of training and inference."""

import itertools
import warnings

import pytest
import torch
from support import make_inputs, tiny_cfg

from detectron2.export import TracingAdapter
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from retina_plugin.bench.implementations import calibrate, detectron2_cfg
from retina_plugin.engine.weights import from_torchvision
from retina_plugin.modeling.meta_arch import Predictions, RetinaPluginNet

BOXES = [[[20.0, 30.0, 90.0, 110.0], [5.0, 5.0, 60.0, 40.0], [40.0, 50.0, 56.0, 70.0]], []]


def full_size_cfg(depth, num_classes, *opts):
    """Return a config with the sizes of published RetinaNets."""
    options = {
        "MODEL.RESNETS.DEPTH": depth,
        "MODEL.RESNETS.NORM": "FrozenBN",
        "MODEL.WEIGHTS": "loaded by the test",
        "MODEL.FPN.OUT_CHANNELS": 256,
        "MODEL.RETINANET.NUM_CONVS": 4,
        "MODEL.RETINANET.NUM_CLASSES": num_classes,
    }
    return tiny_cfg(*itertools.chain(*options.items()), *opts)


def pair(depth, num_classes, inputs):
    """Return Detectron2's model and ours with its weights, loaded unchanged."""
    theirs = build_model(detectron2_cfg(depth=depth, num_classes=num_classes))
    state = calibrate(theirs, inputs)
    theirs.load_state_dict(state)
    ours = build_model(full_size_cfg(depth, num_classes, "MODEL.BACKBONE.FREEZE_AT", 2))
    result = ours.load_state_dict(state, strict=False)
    assert result.missing_keys == ["loss_normalizer"] and not result.unexpected_keys
    return theirs, ours


CASES = [
    (50, 80, [(160, 224), (128, 160)]),
    (50, 1, [(97, 130), (128, 128)]),
    (18, 20, [(200, 120), (161, 255)]),
    (18, 80, [(128, 128), (96, 64)]),
]


@pytest.mark.slow
@pytest.mark.parametrize("depth, num_classes, sizes", CASES)
def test_losses_gradients_and_detections_equal_detectron2s(depth, num_classes, sizes):
    inputs = make_inputs(sizes, BOXES, [[0, num_classes - 1, num_classes // 2], []])
    theirs, ours = pair(depth, num_classes, inputs)
    with EventStorage(), torch.no_grad():
        for _ in range(2):  # twice, so that the moving averages of the normaliser are compared too
            want, got = theirs.train()(inputs), ours.train()(inputs)
            assert got.keys() == want.keys()
            for name, loss in want.items():
                torch.testing.assert_close(got[name], loss, rtol=1e-5, atol=0)
        for a, b in zip(theirs.eval()(inputs), ours.eval()(inputs), strict=True):
            a, b = a["instances"], b["instances"]
            assert len(a) > 10, "too few detections to compare"
            torch.testing.assert_close(b.pred_boxes.tensor, a.pred_boxes.tensor, rtol=0, atol=1e-3)
            torch.testing.assert_close(b.scores, a.scores, rtol=1e-5, atol=1e-6)
            assert b.pred_classes.tolist() == a.pred_classes.tolist()
    # Gradients in float64: in float32, rounding alone changes those of either model by up to 1e-3, where an activation
    # close to zero falls on the other side of a ReLU.
    with EventStorage():
        for model in (theirs, ours):
            model.double().train()
            sum(model(inputs).values()).backward()
    gradients = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        if parameter.grad is None:
            assert gradients[name].grad is None, name
        else:
            atol = 1e-4 * parameter.grad.abs().max().item()
            torch.testing.assert_close(gradients[name].grad, parameter.grad, rtol=0, atol=atol, msg=name)


@pytest.mark.slow
def test_head_outputs_equal_torchvisions():
    from torchvision.models.detection import retinanet_resnet50_fpn

    theirs = retinanet_resnet50_fpn(weights=None, weights_backbone=None, num_classes=7).eval()
    state = theirs.state_dict()
    for name, value in state.items():
        if ".bn" in name and name.endswith("weight"):
            value.fill_(0.5)
    theirs.load_state_dict(state)
    cfg = full_size_cfg(50, 7, "MODEL.RESNETS.STRIDE_IN_1X1", False, "MODEL.FPN.TOP_BLOCK", "conv_p5")
    ours = build_model(cfg).eval()
    result = ours.load_state_dict(from_torchvision(state), strict=False)
    assert result.missing_keys == ["loss_normalizer"] and not result.unexpected_keys
    x = torch.randn(2, 3, 128, 192)
    with torch.no_grad():
        want = theirs.head(list(theirs.backbone(x).values()))
        features = ours.backbone(x)
        logits, deltas = ours.head([features[name] for name in ours.head_in_features])

    def flat(maps, width):  # L x (N, A·width, H, W) -> (N, R, width)
        return torch.cat([m.permute(0, 2, 3, 1).reshape(len(m), -1, width) for m in maps], dim=1)

    torch.testing.assert_close(flat(logits, 7), want["cls_logits"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(flat(deltas, 4), want["bbox_regression"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("boxes", [BOXES, [[], []]], ids=["one image without objects", "no object in the batch"])
def test_losses_are_finite_and_every_parameter_gets_a_gradient(boxes, num_classes):
    model = build_model(tiny_cfg("MODEL.RETINANET.NUM_CLASSES", num_classes)).train()
    inputs = make_inputs([(97, 130), (128, 64)], boxes, [[num_classes - 1] * len(b) for b in boxes])
    losses = model(inputs)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    without = [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []
    if not any(boxes):
        assert losses["loss_box_reg"] == 0


def test_a_batch_of_two_has_the_detections_of_two_single_images():
    model = build_model(tiny_cfg("MODEL.RETINANET.SCORE_THRESH_TEST", 0.005)).eval()
    inputs = make_inputs([(96, 128), (96, 128)], [[], []], [[], []])
    with torch.no_grad():
        together = model(inputs)
        for x, both in zip(inputs, together, strict=True):
            alone = model([x])[0]["instances"]
            assert len(alone) > 0
            torch.testing.assert_close(both["instances"].scores, alone.scores, rtol=1e-4, atol=1e-6)


def test_no_detection_above_the_threshold_gives_empty_instances():
    model = build_model(tiny_cfg("MODEL.RETINANET.SCORE_THRESH_TEST", 0.999)).eval()
    (result,) = model(make_inputs([(64, 64)], [[]], [[]]))
    assert len(result["instances"]) == 0 and result["instances"].pred_boxes.tensor.shape == (0, 4)


def test_detections_are_scaled_to_the_requested_size():
    model = build_model(tiny_cfg("MODEL.RETINANET.SCORE_THRESH_TEST", 0.0)).eval()
    inputs = make_inputs([(64, 96)], [[]], [[]])
    inputs[0]["height"], inputs[0]["width"] = 640, 960
    instances = model(inputs)[0]["instances"]
    assert instances.image_size == (640, 960)
    assert instances.pred_boxes.tensor[:, 2].max() > 96 and instances.pred_boxes.tensor[:, 2].max() <= 960


def test_the_normaliser_is_a_buffer_and_a_moving_average():
    model = build_model(tiny_cfg()).train()
    assert "loss_normalizer" in model.state_dict()
    # 100 * 0.9 + 0.1 * 40 = 94
    assert model.update_normalizer(40).item() == pytest.approx(94.0)
    # A batch without foreground counts as one anchor: 94 * 0.9 + 0.1 = 84.7
    assert model.update_normalizer(0).item() == pytest.approx(84.7)


def test_training_without_instances_reports_which_inputs_lack_them():
    model = build_model(tiny_cfg()).train()
    inputs = make_inputs([(64, 64), (64, 64)], [[], []], [[], []])
    del inputs[1]["instances"]
    with pytest.raises(ValueError, match=r"inputs \[1\] have none"):
        model(inputs)


def test_channels_last_does_not_change_the_losses():
    inputs = make_inputs([(96, 128), (64, 64)], BOXES, [[0, 1, 2], []])
    torch.manual_seed(3)
    a = build_model(tiny_cfg("MODEL.CHANNELS_LAST", True)).train()
    torch.manual_seed(3)
    b = build_model(tiny_cfg("MODEL.CHANNELS_LAST", False)).train()
    assert next(a.backbone.parameters()).is_contiguous(memory_format=torch.channels_last)
    want = b(inputs)
    for name, loss in a(inputs).items():
        torch.testing.assert_close(loss, want[name], rtol=1e-4, atol=1e-6)


def test_losses_stay_float32_under_autocast():
    model = build_model(tiny_cfg()).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(make_inputs([(64, 64), (64, 64)], BOXES, [[0, 1, 2], []]))
    assert all(loss.dtype == torch.float32 for loss in losses.values())


def test_background_in_a_crowd_is_excluded_from_the_loss():
    model = build_model(tiny_cfg()).train()
    plain, crowded = (make_inputs([(64, 96)], [[]], [[]]) for _ in range(2))
    crowded[0]["ignore_boxes"] = torch.tensor([[0.0, 0.0, 96.0, 64.0]])
    assert model(plain)["loss_cls"] > 0
    # Every anchor with more than half of its area in the image is ignored; large anchors have less.
    assert 0 <= model(crowded)["loss_cls"] < model(plain)["loss_cls"]


def test_the_steps_compose_to_training_and_inference():
    inputs = make_inputs([(64, 96), (64, 64)], BOXES, [[0, 1, 2], []])
    model = build_model(tiny_cfg("MODEL.RETINANET.SCORE_THRESH_TEST", 0.005, "MODEL.RESNETS.NORM", "GN")).train()
    want = model(inputs)
    model.loss_normalizer.fill_(100.0)
    predictions = model.predict(model.preprocess_image(inputs))
    anchors, logits, deltas = predictions
    assert [len(level) for level in anchors] == [x.shape[1] for x in logits] == [x.shape[1] for x in deltas]
    assert all(x.shape[::2] == (2, 3) and d.shape[::2] == (2, 4) for x, d in zip(logits, deltas, strict=True))
    labels = model.label_anchors(anchors, [x["instances"] for x in inputs])
    assert labels.gt_labels.shape == (2, sum(map(len, anchors)))
    assert labels.num_foreground == len(labels.foreground[0]) > 0
    assert (labels.gt_labels[labels.foreground] < 3).all()
    assert model.losses(predictions, labels) == want and model.loss_normalizer < 100
    with torch.no_grad():
        whole = model.eval()(inputs)
        images = model.preprocess_image(inputs)
        parts = model.inference(*model.predict(images), images, inputs)
    for a, b in zip(whole, parts, strict=True):
        assert len(a["instances"]) > 0 and torch.equal(a["instances"].scores, b["instances"].scores)


def test_each_step_can_be_overridden():
    class Mine(RetinaPluginNet):
        def predict(self, images):
            anchors, logits, deltas = super().predict(images)
            calls.append("predict")
            return Predictions(anchors, logits, deltas)

        def label_anchors(self, anchors, gt_instances):
            calls.append("label_anchors")
            return super().label_anchors(anchors, gt_instances)

        def losses(self, predictions, labels):
            calls.append("losses")
            return {**super().losses(predictions, labels), "loss_more": predictions.logits[0].sum() * 0}

    calls = []
    model = Mine(tiny_cfg()).train()
    assert set(model(make_inputs([(64, 96)], [[[10, 10, 60, 50]]], [[0]]))) == {"loss_cls", "loss_box_reg", "loss_more"}
    model.eval()(make_inputs([(64, 96)], [[]], [[]]))
    assert calls == ["predict", "label_anchors", "losses", "predict"]


def test_in_evaluation_losses_are_normalised_by_the_batch_alone():
    model = build_model(tiny_cfg()).eval()
    inputs = make_inputs([(64, 96)], [[[10, 10, 60, 50]]], [[0]])
    with torch.no_grad():
        predictions = model.predict(model.preprocess_image(inputs))
        labels = model.label_inputs(predictions.anchors, inputs)
        evaluated = model.losses(predictions, labels)
        assert model.loss_normalizer == 100
        trained = model.train().losses(predictions, labels)
    for name, loss in trained.items():
        torch.testing.assert_close(evaluated[name] * labels.num_foreground, loss * model.loss_normalizer)


def noise(seed, height, width):
    """Return a batch of one random image, with a contrast that depends on the seed."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), generator=generator)
    return [{"image": image.float() * (seed % 5 + 1) / 5}]


@pytest.mark.slow
def test_a_traced_model_is_equal_for_different_sizes_and_numbers_of_detections():
    torch.manual_seed(0)
    model = build_model(tiny_cfg("MODEL.RETINANET.SCORE_THRESH_TEST", 0.012)).eval()
    adapter = TracingAdapter(model, noise(1, 96, 128))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about Python numbers
        traced = torch.jit.trace(adapter, adapter.flattened_inputs)
        numbers = set()
        sizes = [(96, 128), (96, 128), (64, 64), (160, 224), (100, 133), (61, 200), (33, 33)]
        for seed, size in zip((1, 2, 3, 6, 7, 8, 5), sizes, strict=True):
            inputs = noise(seed, *size)
            (want,), (got,) = model(inputs), adapter.outputs_schema(traced(inputs[0]["image"]))
            want, got = want["instances"], got["instances"]
            numbers.add(len(want))
            assert torch.equal(want.pred_boxes.tensor, got.pred_boxes.tensor)
            assert torch.equal(want.scores, got.scores) and torch.equal(want.pred_classes, got.pred_classes)
    assert len(numbers) > 4
