from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from napari_resunet.model.checkpoint import load_model
from napari_resunet.model.folded import FoldedResUNet
from napari_resunet.model.presets import NetworkSettings
from napari_resunet.model.resunet import ResUNet


def network(classes: int = 1, **options: Any) -> ResUNet:
    """A network whose batch normalisations all do something."""
    torch.manual_seed(0)
    made = ResUNet(NetworkSettings(width=4, **options), classes)
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.5, 0.5)
            nn.init.uniform_(part.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return made.eval()


@torch.inference_mode()
@pytest.mark.parametrize("stem", [1, 2, 3])
@pytest.mark.parametrize("units", [(1, 1, 1, 1), (3, 4, 6, 3), (2,)])
@pytest.mark.parametrize("shortcut", ["conv", "identity", "none"])
def test_the_folded_network_gives_the_answer_of_the_network(shortcut: Any, units: Any, stem: int) -> None:
    plain = network(shortcut=shortcut, units=units, stem=stem)
    image = torch.rand(2, 1, 32, 48)
    expected, found = plain(image), FoldedResUNet(plain)(image)
    assert float(expected.std()) > 0.01
    # float32 rounds by 2**-24, at each of some 60 layers, of sums whose parts are larger than they are
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@torch.inference_mode()
def test_a_network_of_colour_images_and_three_classes_folds_as_well() -> None:
    plain = network(classes=3, in_channels=3)
    image = torch.rand(2, 3, 32, 48)
    expected, found = plain(image), FoldedResUNet(plain)(image)
    assert expected.shape == (2, 3, 32, 48)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@torch.inference_mode()
def test_the_weights_that_ship_give_the_same_logits_folded() -> None:
    plain = load_model("lung-ct").network
    image = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(FoldedResUNet(plain)(image), plain(image), rtol=1e-3, atol=1e-3)


@torch.inference_mode()
def test_a_folded_network_leaves_the_image_and_the_network_as_they_were() -> None:
    plain = network(units=(1, 1), stem=2)
    image = torch.rand(1, 1, 16, 16)
    before, weights = image.clone(), {name: value.clone() for name, value in plain.state_dict().items()}
    folded = FoldedResUNet(plain, torch.bfloat16)
    first, again = folded(image), folded(image)
    assert torch.equal(first, again)
    assert torch.equal(image, before)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, weights[name]), name


def test_a_folded_network_is_not_changed_by_what_happens_to_the_network() -> None:
    plain = network(units=(1, 1), stem=2)
    folded = FoldedResUNet(plain)
    shared = {value.data_ptr() for value in plain.state_dict().values()} & {
        value.data_ptr() for value in folded.state_dict().values()
    }
    assert not shared


def test_the_convolutions_but_that_of_the_image_have_the_wanted_precision() -> None:
    folded = FoldedResUNet(network(units=(1, 1)), torch.bfloat16)
    convolutions = [part for part in folded.modules() if isinstance(part, nn.Conv2d | nn.ConvTranspose2d)]
    assert [part.weight.dtype for part in convolutions] == [
        torch.float32,
        *[torch.bfloat16] * (len(convolutions) - 1),
    ]
    assert convolutions[0].in_channels == 1
    for part in folded.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.weight.dtype == torch.float32


@torch.inference_mode()
def test_autocast_does_not_round_the_image_either() -> None:
    folded, image = FoldedResUNet(network(units=(1, 1)), torch.bfloat16), torch.rand(1, 1, 16, 16)
    expected = folded(image)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(folded(image), expected)


def test_few_normalisations_are_left() -> None:
    def norms(part: nn.Module) -> int:
        return sum(isinstance(each, nn.BatchNorm2d) for each in part.modules())

    plain = network(units=(3, 4, 6, 3))
    assert norms(plain) == 1 + 1 + 2 * 16 + 2 * 4 + 1
    assert norms(FoldedResUNet(plain)) == 1 + 4 + 4  # of the image, and where a skip leaves
