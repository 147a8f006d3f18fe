"""Gradient checkpointing: equal gradients and statistics, less memory."""

import pytest
import torch
from support import make_inputs, tiny_cfg
from torch import nn
from torch.utils.checkpoint import checkpoint

from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

from retina_plugin.modeling import checkpointing
from retina_plugin.modeling.checkpointing import checkpoint_gradients

NETWORKS = {
    "resnet": (["MODEL.BOTTOM_UP.NAME", "build_retina_resnet"], 8),
    "timm": (["MODEL.BOTTOM_UP.NAME", "build_retina_timm", "MODEL.TIMM.NAME", "tf_efficientnet_lite0"], 7),
    "torchvision": (["MODEL.BOTTOM_UP.NAME", "build_retina_torchvision"], None),
    "regnet": (["MODEL.BOTTOM_UP.NAME", "build_retina_detectron2", "MODEL.DETECTRON2.NAME", "regnetx_400mf"], None),
    "swin": (["MODEL.BOTTOM_UP.NAME", "build_retina_detectron2", "MODEL.DETECTRON2.NAME", "swin_t"], None),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_losses_gradients_and_statistics_are_equal(name, monkeypatch):
    opts, count = NETWORKS[name]
    plain = build_model(tiny_cfg(*opts)).train()
    saving = build_model(tiny_cfg(*opts)).train()
    saving.load_state_dict(plain.state_dict())
    for model in (plain, saving):  # stochastic depth is random
        for module in model.modules():
            if hasattr(module, "drop_prob"):
                module.drop_prob = 0.0
    blocks = checkpoint_gradients(saving.backbone.bottom_up)
    assert blocks == count if count else blocks > 1
    calls = []

    def counted(*args, **kwargs):
        calls.append(1)
        return checkpoint(*args, **kwargs)

    monkeypatch.setattr(checkpointing, "checkpoint", counted)
    inputs, losses = make_inputs([(64, 96), (64, 64)], [[[4.0, 4.0, 40.0, 40.0]], []], [[1], []]), []
    for model in (plain, saving):
        with EventStorage():
            found = model(inputs)
        sum(found.values()).backward()
        losses.append({key: float(value) for key, value in found.items()})
    assert len(calls) >= 2 and losses[0] == losses[1]
    for (key, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        if a.grad is None:
            assert b.grad is None
        else:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-7, msg=key)
    for (key, a), b in zip(plain.named_buffers(), saving.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=key)


def stored_numbers(network):
    """Count the numbers that a training step of a network stores for its backward pass."""
    sizes = []

    def store(x):
        sizes.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(store, lambda x: x):
        network(torch.rand(1, 3, 64, 64))
    return sum(sizes)


def test_less_is_stored_for_the_backward_pass():
    cfg = tiny_cfg("MODEL.RESNETS.DEPTH", 50, "MODEL.BOTTOM_UP.NAME", "build_retina_resnet")
    plain, saving = (build_model(cfg).train().backbone.bottom_up for _ in range(2))
    checkpoint_gradients(saving)
    assert stored_numbers(saving) < 0.4 * stored_numbers(plain)


def test_evaluation_and_frozen_networks_are_not_checkpointed(monkeypatch):
    monkeypatch.setattr(checkpointing, "checkpoint", None)  # a call would fail
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    assert checkpoint_gradients(nn.Sequential(network)) == 2
    network.eval()(torch.rand(1, 3, 9, 9))
    network.train().requires_grad_(False)
    network(torch.rand(1, 3, 9, 9))


def test_without_sequences_the_blocks_are_the_children():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.relu = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU()

    assert checkpoint_gradients(Plain()) == 2


def test_a_network_without_weights_has_no_blocks():
    assert checkpoint_gradients(nn.Sequential(nn.ReLU())) == 0
