"""Growing a network: the larger one computes the same, and its copied channels diverge in training."""

from __future__ import annotations

import pytest
import torch
from used_networks import everything, make_used

import training  # noqa: F401  # before torch: it sets how threads wait
from training.networks.growth import Channels, grow, rectified_moments
from training.networks.student import build_student


@pytest.mark.parametrize(("small", "large"), [("n", "s"), ("s", "m"), ("n", "l"), ("s", "s")])
@torch.no_grad()
def test_large_network_computes_the_same(small: str, large: str) -> None:
    torch.manual_seed(1)
    ours, grown = make_used(small).eval(), build_student(large, 11, 4).eval()
    images = torch.rand(2, 3, 64, 96)
    expected = everything(ours(images, with_one_to_many=True))
    before = everything(grown(images, with_one_to_many=True))
    grow(ours, grown)
    for value, was, wanted in zip(everything(grown(images, with_one_to_many=True)), before, expected, strict=True):
        assert not torch.allclose(was, wanted, atol=0.1)
        assert torch.allclose(value, wanted, atol=1e-3 * float(wanted.abs().max()))


@torch.no_grad()
def test_large_network_computes_nearly_the_same_in_training_mode() -> None:
    torch.manual_seed(2)
    ours, grown = make_used("n"), build_student("s", 11, 4)
    images = torch.rand(8, 3, 128, 128)
    for _ in range(30):  # running statistics of the data, as in a trained network
        ours(images)
    grow(ours, grown)
    wanted, value = ours(images).segmentation_logits, grown(images).segmentation_logits
    assert float(torch.corrcoef(torch.stack([wanted.flatten(), value.flatten()]))[0, 1]) > 0.9


def test_copied_channels_diverge_in_training() -> None:
    torch.manual_seed(3)
    ours, grown = make_used("n"), build_student("s", 11, 4)
    grow(ours, grown)
    first = grown.backbone.stages[0][0]
    assert torch.equal(first.weight[0], first.weight[16])  # the first of 16 channels, and its copy
    grown(torch.rand(2, 3, 64, 64)).segmentation_logits.square().mean().backward()
    assert not torch.allclose(first.weight.grad[0], first.weight.grad[16], rtol=0.05)


def test_every_parameter_is_trained() -> None:
    torch.manual_seed(4)
    grown = build_student("m", 11, 4)
    grow(make_used("s"), grown)
    outputs = grown(torch.rand(2, 3, 64, 64))
    sum(value.square().mean() for value in everything(outputs)).backward()
    still = [name for name, value in grown.named_parameters() if value.grad is None]
    assert not still


def test_shares_of_a_source_add_up_to_one() -> None:
    channels = Channels.spread(3, 8)
    shares = channels.shares()
    sums = torch.zeros(3).index_add(0, channels.source, shares)
    assert torch.allclose(sums, torch.ones(3))
    assert float(shares.min()) > 0
    assert len(set(shares.tolist())) == 8


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.7, 0.5), (-0.4, 1.3)])
def test_moments_of_a_rectified_normal_variable(mean: float, deviation: float) -> None:
    torch.manual_seed(5)
    drawn = (torch.randn(2_000_000) * deviation + mean).clamp(min=0)
    found_mean, found_variance = rectified_moments(torch.tensor([mean]), torch.tensor([deviation]))
    assert float(found_mean) == pytest.approx(float(drawn.mean()), abs=5e-3)
    assert float(found_variance) == pytest.approx(float(drawn.var()), abs=5e-3)


def test_a_network_cannot_shrink() -> None:
    with pytest.raises(ValueError, match="at least"):
        grow(build_student("s", 11, 4), build_student("n", 11, 4))
