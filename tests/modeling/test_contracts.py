"""A variant that breaks its contract is reported in the first step, and only the first step is checked."""

import pytest
import torch
from support import make_inputs, tiny_cfg
from torch import nn

from detectron2.modeling import build_model

from retina_plugin.modeling import contracts
from retina_plugin.modeling.contracts import ContractError

BATCH = [(64, 64)], [[[4.0, 4.0, 40.0, 40.0]]], [[1]]


def model_with(**parts):
    model = build_model(tiny_cfg()).train()
    for name, part in parts.items():
        setattr(model, name, part)
    return model


class Wrapped(nn.Module):
    """A module whose result is changed by a function."""

    def __init__(self, part, change):
        super().__init__()
        self.part, self.change = part, change

    def forward(self, *args):
        return self.change(self.part(*args))

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.part, name)


def changed(part, change):
    """Return a function that changes the result of a part."""
    return lambda *args: change(part(*args))


def broken(slot):
    """Return all ways to break the contract of a part: a change of what it returns, and words of the message."""

    def narrow(out):
        logits, deltas = out
        return [logits[0][:, :-1], *logits[1:]], deltas

    return {
        "backbone": [
            (
                lambda maps: {name: x for name, x in maps.items() if name != "p4"},
                ["p4 (1, 16, 4, 4)", "it returned a dict with 'p3', 'p5'"],
            ),
            (lambda maps: list(maps.values()), ["a dict of maps", "a list of 5"]),
            (lambda maps: {**maps, "p4": maps["p3"]}, ["p4 (1, 16, 8, 8)"]),
        ],
        "head": [
            (narrow, ["9 x 3", "logits of level 0 are (1, 27, 8, 8)", "(1, 26, 8, 8)"]),
            (lambda out: (out[0][:-1], out[1]), ["two lists of 5 tensors", "a tuple of 2"]),
            (lambda out: out[0], ["two lists of 5 tensors", "it returned a list of 5"]),
            (lambda out: {"logits": out[0], "deltas": out[1]}, ["a dict with 'logits', 'deltas'"]),
            (lambda out: (out[0], out[0]), ["deltas of level 0 are (1, 36, 8, 8)"]),
        ],
        "anchor_generator": [
            (lambda anchors: [level.tensor for level in anchors], ["a list of 5 Boxes", "float32 tensor (576, 4)"]),
            (
                lambda anchors: [anchors[0][:10], *anchors[1:]],
                ["576, 144, 36, 9, 9 of them", "10, 144, 36, 9, 9 of them"],
            ),
        ],
        "assigner": [
            (lambda out: (out[0].float(), out[1]), ["int64 tensors (1, 774)", "a float32 tensor (1, 774)"]),
            (lambda out: out[0], ["gt_labels, matched_idxs", "an int64 tensor (1, 774)"]),
            (lambda out: (out[0] + 4, out[1]), ["0 to 2, 3 (background)", "labels from"]),
            (lambda out: (out[0], out[1] + 7), ["matched_idxs from 0 to 0"]),
            (lambda out: (out[0][:, :-1], out[1]), ["(1, 773)"]),
        ],
        "cls_loss": [
            (lambda loss: loss.repeat(3), ["a scalar tensor", "a float32 tensor (3,)"]),
            (lambda loss: {"loss": loss}, ["a dict with 'loss'"]),
            (lambda loss: loss.detach(), ["without a gradient"]),
            (lambda loss: float(loss), ["a float"]),
            (lambda loss: loss.long(), ["an int64 tensor ()"]),
        ],
        "box_loss": [
            (lambda loss: (loss, loss), ["MODEL.RETINANET.BBOX_REG_LOSS_TYPE", "a tuple of 2"]),
            (lambda loss: None, ["a NoneType"]),
        ],
    }[slot]


SLOTS = {
    "backbone": "MODEL.FPN.NAME",
    "head": "MODEL.RETINANET.HEAD_NAME",
    "anchor_generator": "MODEL.ANCHOR_GENERATOR.NAME",
    "assigner": "MODEL.RETINANET.ASSIGNER",
    "cls_loss": "MODEL.RETINANET.CLS_LOSS",
    "box_loss": "MODEL.RETINANET.BBOX_REG_LOSS_TYPE",
}


@pytest.mark.parametrize("name, number", [(name, i) for name in SLOTS for i in range(len(broken(name)))])
def test_the_error_names_slot_class_and_what_was_expected(name, number):
    change, words = broken(name)[number]
    model = model_with()
    part = getattr(model, name)
    setattr(model, name, Wrapped(part, change) if isinstance(part, nn.Module) else changed(part, change))
    with pytest.raises(ContractError) as error:
        model(make_inputs(*BATCH))
    assert isinstance(error.value, TypeError)
    message = str(error.value)
    kind = "test_contracts.Wrapped" if isinstance(part, nn.Module) else "test_contracts.changed.<locals>.<lambda>"
    assert message.startswith(SLOTS[name]) and kind in message and "must return" in message
    assert [word for word in words if word not in message] == []


def test_contracts_are_checked_once(monkeypatch):
    model = model_with()
    model(make_inputs(*BATCH))
    for name in ("check_features", "check_head", "check_anchors", "check_labels", "check_loss"):
        monkeypatch.setattr(f"retina_plugin.modeling.meta_arch.{name}", None)  # a call would fail
    model(make_inputs(*BATCH))
    model.eval()(make_inputs(*BATCH))


def test_losses_are_checked_in_training_even_after_an_evaluation():
    model = model_with().eval()
    with torch.no_grad():
        model(make_inputs(*BATCH))
    model.train().cls_loss = changed(model.cls_loss, lambda loss: loss.repeat(2))
    with pytest.raises(ContractError, match="CLS_LOSS"):
        model(make_inputs(*BATCH))


def test_a_loss_needs_neither_normalized_nor_compile(caplog):
    """A plain function can be a loss; its result is divided by the normaliser."""
    whole = model_with()
    plain = changed(whole.cls_loss, lambda loss: loss)
    model = build_model(tiny_cfg("MODEL.COMPILE", ("cls_loss",)))
    assert not caplog.records
    model.cls_loss = plain
    torch.manual_seed(0)
    losses = model.train()(make_inputs(*BATCH))
    assert losses["loss_cls"].ndim == 0 and not hasattr(plain, "normalized")


def test_values_are_described_in_a_few_words():
    assert contracts.described([]) == "a list of 0: []"
    assert contracts.described({}) == "a dict with nothing"
    assert contracts.described(None) == "a NoneType"
    entry = "a float32 tensor (1,)"
    assert contracts.described([torch.zeros(1)] * 5) == f"a list of 5: [{entry}, {entry}, {entry}, ...]"
