from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from napari_resunet.model.presets import PRESETS, NetworkSettings
from napari_resunet.model.resunet import DecoderLevel, PlainUnit, ResidualUnit, ResUNet

NAMES = sorted(PRESETS)
RESIDUAL = ["identity", "paper"]


def tiny(name: str, **changes: Any) -> ResUNet:
    torch.manual_seed(0)
    return ResUNet(dataclasses.replace(PRESETS[name], **{"width": 4, **changes})).eval()


def convolutions(*modules: nn.Module) -> int:
    return sum(isinstance(part, nn.Conv2d) for module in modules for part in module.modules())


def units(network: nn.Module) -> list[Any]:
    return [part for part in network.modules() if isinstance(part, ResidualUnit | PlainUnit)]


@pytest.mark.parametrize(("name", "count"), [("paper", 50), ("identity", 37), ("plain", 33)])
def test_the_encoder_has_as_many_convolutions_as_its_preset_says(name: str, count: int) -> None:
    network = tiny(name)
    assert convolutions(network.stem, network.encoder) == count


@pytest.mark.parametrize("name", NAMES)
def test_the_encoder_has_3_4_6_and_3_units_of_two_3x3_convolutions(name: str) -> None:
    network = tiny(name)
    assert [len(units(level)) for level in network.encoder] == [3, 4, 6, 3]
    for unit in units(network.encoder):
        assert unit.conv1.kernel_size == unit.conv2.kernel_size == (3, 3)


@pytest.mark.parametrize("name", NAMES)
def test_each_encoder_level_halves_the_sides_and_each_decoder_level_doubles_them(name: str) -> None:
    network = tiny(name)
    sides: list[int] = []
    for module in (network.stem, *network.encoder, *network.decoder):
        module.register_forward_hook(lambda _module, _given, out: sides.append(out.shape[-1]))
    with torch.inference_mode():
        network(torch.zeros(1, 1, 128, 128))
    assert sides == [128, 64, 32, 16, 8, 16, 32, 64, 128]


@pytest.mark.parametrize("name", NAMES)
def test_each_level_has_twice_the_filters_of_the_one_above(name: str) -> None:
    network = tiny(name)
    assert [units(level)[-1].conv2.out_channels for level in network.encoder] == [4, 8, 16, 32]
    assert [units(level)[-1].conv2.out_channels for level in network.decoder] == [16, 8, 4, 4]


@pytest.mark.parametrize("name", NAMES)
def test_the_decoder_has_four_levels_of_transposed_convolution_joined_with_a_skip(name: str) -> None:
    network = tiny(name)
    assert len(network.decoder) == 4
    for level in network.decoder:
        assert isinstance(level, DecoderLevel)
        assert isinstance(level.up, nn.ConvTranspose2d)
        assert units(level)[0].conv1.in_channels == 2 * level.up.out_channels


@pytest.mark.parametrize("name", NAMES)
def test_each_decoder_level_is_joined_with_what_the_encoder_saw_at_that_size(name: str) -> None:
    network = tiny(name)
    seen: list[torch.Tensor] = []
    joined: list[torch.Tensor] = []
    for module in (network.stem, *list(network.encoder)[:-1]):
        module.register_forward_hook(lambda _module, _given, out: seen.append(out))
    for level in network.decoder:
        level.register_forward_pre_hook(lambda _module, given: joined.append(given[1]))
    with torch.inference_mode():
        network(torch.rand(1, 1, 32, 32))
    assert len(seen) == len(joined) == 4
    assert all(left is right for left, right in zip(seen, reversed(joined), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_the_skip_of_a_decoder_level_changes_its_answer(name: str) -> None:
    level, x = tiny(name).decoder[1], torch.randn(1, 16, 4, 4)
    with torch.inference_mode():
        assert not torch.equal(level(x, torch.zeros(1, 8, 8, 8)), level(x, torch.ones(1, 8, 8, 8)))


@pytest.mark.parametrize("name", NAMES)
def test_the_head_is_a_1x1_convolution_with_one_output(name: str) -> None:
    last = list(tiny(name).head.children())[-1]
    assert isinstance(last, nn.Conv2d)
    assert (last.kernel_size, last.out_channels) == ((1, 1), 1)


def test_every_unit_of_paper_has_a_1x1_shortcut_without_bias() -> None:
    found = units(tiny("paper"))
    assert len(found) == 16 + 4
    for unit in found:
        assert unit.shortcut.kernel_size == (1, 1)
        assert unit.shortcut.bias is None
        assert unit.shortcut.stride == unit.conv1.stride


def test_identity_has_a_convolution_in_the_shortcut_only_where_the_shape_changes() -> None:
    levels = [[unit.shortcut is not None for unit in units(level)] for level in tiny("identity").encoder]
    assert levels == [[True, *[False] * (count - 1)] for count in (3, 4, 6, 3)]


def test_plain_has_no_shortcut() -> None:
    assert not any(hasattr(unit, "shortcut") for unit in units(tiny("plain")))


@pytest.mark.parametrize("name", RESIDUAL)
def test_a_residual_unit_normalises_and_activates_before_each_convolution(name: str) -> None:
    unit = units(tiny(name).encoder)[1]
    seen: list[torch.Tensor] = []
    for convolution in (unit.conv1, unit.conv2):
        convolution.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    with torch.inference_mode():
        out = unit(torch.randn(2, 4, 8, 8))
    assert all(given.min() == 0 for given in seen)
    assert out.min() < 0  # nothing is cut off after the sum
    assert unit.norm1.num_features == unit.conv1.in_channels
    assert unit.norm2.num_features == unit.conv2.in_channels


def test_a_plain_unit_normalises_and_activates_after_each_convolution() -> None:
    unit = units(tiny("plain").encoder)[1]
    with torch.inference_mode():
        assert unit(torch.randn(2, 4, 8, 8)).min() == 0
    assert unit.norm2.num_features == unit.conv2.out_channels


def test_an_identity_unit_that_has_learnt_nothing_gives_back_its_input() -> None:
    unit = ResidualUnit(4, 4, stride=1, shortcut="identity").eval()
    nn.init.zeros_(unit.conv2.weight)
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(unit(x), x)


def test_a_convolutional_shortcut_is_taken_after_the_first_norm_and_activation() -> None:
    unit = ResidualUnit(4, 8, stride=2, shortcut="conv").eval()
    nn.init.zeros_(unit.conv2.weight)
    nn.init.constant_(unit.norm1.bias, 0.3)
    x = torch.randn(2, 4, 8, 8)
    assert unit.shortcut is not None
    assert torch.equal(unit(x), unit.shortcut(torch.relu(unit.norm1(x))))


@pytest.mark.parametrize("name", NAMES)
def test_the_image_is_batch_normalised_before_the_first_convolution(name: str) -> None:
    first, second = list(tiny(name).stem.children())[:2]
    assert isinstance(first, nn.BatchNorm2d)
    assert isinstance(second, nn.Conv2d)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    # In evaluation mode: a batch norm that takes its statistics from the batch takes out any bias before it.
    network = tiny(name)
    network(torch.rand(2, 1, 32, 32)).square().mean().backward()
    dead = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


@pytest.mark.parametrize("width", [32, 64])
def test_the_published_widths_can_be_built(width: int) -> None:
    with torch.device("meta"):  # shapes only: this is a matter of megabytes
        network = ResUNet(NetworkSettings(width=width))
        assert network(torch.zeros(1, 1, 128, 128)).shape == (1, 1, 128, 128)
    assert network.encoder[3][-1].conv2.out_channels == 8 * width


@pytest.mark.parametrize("sides", [(16, 16), (32, 64), (48, 16)])
def test_the_answer_has_the_shape_of_the_image(sides: tuple[int, int]) -> None:
    with torch.inference_mode():
        assert tiny("paper")(torch.zeros(3, 1, *sides)).shape == (3, 1, *sides)


def test_the_answer_is_logits_and_not_probabilities() -> None:
    network = tiny("paper")
    last = network.head[-1]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    with torch.inference_mode():
        before = network(torch.zeros(1, 1, 16, 16))
        last.bias += 7
        after = network(torch.zeros(1, 1, 16, 16))
    torch.testing.assert_close(after, before + 7)


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 32, 32), (32, 32)])
def test_an_image_of_other_channels_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image must be \(n, 1, y, x\), got "):
        tiny("plain")(torch.zeros(shape))


@pytest.mark.parametrize("sides", [(32, 40), (8, 32), (100, 100)])
def test_sides_that_cannot_be_halved_four_times_are_refused(sides: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="sides must be multiples of 16, got "):
        tiny("plain")(torch.zeros(1, 1, *sides))


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_network(name: str) -> None:
    first, second = tiny(name).state_dict(), tiny(name).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    torch.manual_seed(1)
    other = ResUNet(dataclasses.replace(PRESETS[name], width=4)).state_dict()
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_every_convolution_begins_with_the_variance_of_he() -> None:
    torch.manual_seed(0)
    weight = ResUNet(NetworkSettings(width=16)).encoder[3][-1].conv2.weight
    fan_in = weight.shape[1] * 9
    # 128 * 128 * 9 draws: the standard deviation of a sample that large is right to 1 / sqrt(2 n) = 0.2 %
    assert float(weight.detach().std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.01)


@pytest.mark.parametrize("units_per_level", [(1, 1), (1, 2, 1)])
def test_a_network_of_other_depth_knows_what_its_sides_must_be(units_per_level: tuple[int, ...]) -> None:
    settings = NetworkSettings(units=units_per_level, width=4)
    assert settings.multiple == 2 ** len(units_per_level)
    with torch.inference_mode():
        out = ResUNet(settings).eval()(torch.zeros(1, 1, settings.multiple, 3 * settings.multiple))
    assert out.shape == (1, 1, settings.multiple, 3 * settings.multiple)


@pytest.mark.parametrize(
    "changes", [{"width": 0}, {"stem": 0}, {"units": ()}, {"units": (3, 0)}, {"in_channels": 0}]
)
def test_a_network_of_nothing_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="stem, units, width and in_channels must be at least 1"):
        NetworkSettings(**changes)


def test_an_unknown_shortcut_is_refused() -> None:
    shortcut: Any = "dense"
    with pytest.raises(ValueError, match="shortcut must be one of conv, identity, none; got 'dense'"):
        NetworkSettings(shortcut=shortcut)
