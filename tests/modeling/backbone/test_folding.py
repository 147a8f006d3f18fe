"""A folded convolution equals the convolution with its frozen normalisation."""

import copy

import pytest
import torch

from detectron2.layers import Conv2d, FrozenBatchNorm2d

from retina_plugin.modeling.backbone.folding import FoldedConv2d, fold_frozen_norms
from retina_plugin.modeling.backbone.resnet import build_resnet


def layers(bias=False, **options):
    norm = FrozenBatchNorm2d(6)
    for buffer in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        buffer.uniform_(0.5, 1.5)
    plain = Conv2d(4, 6, kernel_size=3, bias=bias, norm=norm, **options).double()
    return plain, FoldedConv2d(copy.deepcopy(plain))


@pytest.mark.parametrize(
    "options", [{}, {"bias": True}, {"stride": 2, "padding": 1}, {"groups": 2, "activation": torch.relu}]
)
def test_values_and_gradients_equal_those_of_the_two_layers(options):
    plain, folded = layers(**options)
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64, requires_grad=True)
    want, got = plain(x), folded(x)
    torch.testing.assert_close(got, want)
    seed = torch.randn_like(want)
    want = torch.autograd.grad(want, [x, *plain.parameters()], seed)
    for a, b in zip(torch.autograd.grad(got, [x, *folded.parameters()], seed), want, strict=True):
        torch.testing.assert_close(a, b)


def test_names_of_parameters_and_buffers_are_unchanged():
    plain, folded = layers(bias=True)
    assert list(folded.state_dict()) == list(plain.state_dict())
    assert isinstance(folded, Conv2d)


def test_the_product_is_cached_until_a_weight_or_a_buffer_changes():
    plain, folded = layers()
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    plain.eval(), folded.eval()
    with torch.no_grad():
        folded(x)
        assert folded._folded_once()[0] is folded._folded_once()[0]
        for change in (lambda m: m.weight.mul_(2), lambda m: m.norm.bias.add_(1)):
            change(plain), change(folded)
            torch.testing.assert_close(folded(x), plain(x))
        state = {name: value + 1 for name, value in plain.state_dict().items()}
        plain.load_state_dict(state), folded.load_state_dict(state)
        torch.testing.assert_close(folded(x), plain(x))


def test_the_cached_product_is_dropped_when_training_resumes():
    # A fused optimizer changes a weight without incrementing its version.
    plain, folded = layers()
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    for _ in range(2):
        with torch.no_grad():
            torch.testing.assert_close(folded.eval()(x), plain.eval()(x))
        for model in (plain, folded):
            optimizer = torch.optim.SGD([model.weight], lr=0.1, fused=True)
            model.train()(x).sum().backward()
            optimizer.step()


def test_nothing_is_cached_in_inference_mode():
    _, folded = layers()
    with torch.inference_mode():
        folded.eval()(torch.randn(1, 4, 5, 5, dtype=torch.float64))
    assert folded._kept is None


def test_the_cached_product_has_the_dtype_of_autocast():
    _, folded = layers()
    folded.float().eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert folded(torch.randn(1, 4, 5, 5)).dtype == folded._folded_once()[0].dtype == torch.bfloat16
    with torch.no_grad():
        assert folded(torch.randn(1, 4, 5, 5)).dtype == torch.float32


def test_a_resnet_is_folded_only_where_its_norms_are_frozen():
    def count(net):
        return sum(isinstance(m, FoldedConv2d) for m in net.modules())

    assert count(build_resnet(depth=50, out_features=["res5"], norm="FrozenBN", freeze_at=2)) == 53
    assert count(build_resnet(depth=50, out_features=["res5"], norm="BN", freeze_at=0)) == 0
    # The stem, and res2: three blocks of three convolutions and one shortcut.
    assert count(build_resnet(depth=50, out_features=["res5"], norm="BN", freeze_at=2)) == 11


def test_folding_does_not_use_random_numbers():
    net = torch.nn.Sequential(layers()[0])
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    assert fold_frozen_norms(net) == 1
    assert torch.equal(torch.rand(3), want)
