"""Linear imputation: hand-computed pixels, the equations themselves, and no influence of the batch."""

import pytest
import torch
from unitlens.images import fill


def ramp(height, width):
    """An image that rises linearly along both sides, differently in each channel."""
    rows, columns = torch.arange(height)[:, None, None], torch.arange(width)[None, :, None]
    return (rows + columns * torch.tensor([1, 2, 3])).float()[None]


def holes(*shape, share, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


def test_one_missing_pixel_is_the_weighted_mean_of_its_neighbors():
    image = torch.tensor([[[12.0, 6, 24], [18, 99, 30], [0, 48, 36]]])[..., None]
    removed = torch.zeros(1, 3, 3, dtype=torch.bool)
    removed[0, 1, 1] = True
    filled = fill.impute(image, removed)
    # (12 + 24 + 0 + 36) / 12 + (6 + 18 + 30 + 48) / 6
    assert filled[0, 1, 1, 0].item() == pytest.approx(6 + 17, abs=1e-3)
    assert torch.equal(filled[~removed], image[~removed])


def test_a_corner_has_three_neighbors():
    image = torch.tensor([[[99.0, 10], [20, 40]]])[..., None]
    removed = torch.tensor([[[True, False], [False, False]]])
    # weights 1/6, 1/6 and 1/12, scaled to 1: 2/5, 2/5, 1/5
    assert fill.impute(image, removed)[0, 0, 0, 0].item() == pytest.approx(4 + 8 + 8, abs=1e-3)


def test_two_missing_pixels_depend_on_each_other():
    image = torch.tensor([[[0.0, 99, 99, 60]]])[..., None]
    removed = torch.tensor([[[False, True, True, False]]])
    assert fill.impute(image, removed)[0, 0, :, 0].tolist() == pytest.approx([0, 20, 40, 60], abs=fill.TOLERANCE)


def test_a_linear_image_is_restored_inside():
    image, removed = ramp(40, 51), torch.zeros(1, 40, 51, dtype=torch.bool)
    removed[:, 4:-4, 4:-4] = True
    assert (fill.impute(image, removed) - image).abs().max() < 4 * fill.TOLERANCE


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("size", [(16, 16), (37, 50)])
def test_every_filled_pixel_solves_its_equation(share, size):
    image = torch.randint(0, 256, (2, *size, 3), generator=torch.Generator().manual_seed(1))
    removed = holes(2, *size, share=share)
    filled = fill.impute(image, removed).permute(0, 3, 1, 2)
    kernel = torch.tensor([[1.0, 2, 1], [2, 0, 2], [1, 2, 1]]).expand(3, 1, 3, 3)
    total = torch.nn.functional.conv2d(torch.ones_like(filled), kernel, padding=1, groups=3)
    means = torch.nn.functional.conv2d(filled, kernel, padding=1, groups=3) / total
    wrong = ((means - filled).abs() * removed[:, None]).amax()
    assert wrong < 2 * fill.TOLERANCE


def test_nothing_removed_and_all_but_one_removed():
    image = torch.randint(0, 256, (2, 20, 20, 3), generator=torch.Generator().manual_seed(1))
    removed = torch.zeros(2, 20, 20, dtype=torch.bool)
    removed[1] = True
    removed[1, 3, 4] = False
    filled = fill.impute(image, removed)
    assert torch.equal(filled[0], image[0].float())
    assert (filled[1] - image[1, 3, 4]).abs().max() < fill.TOLERANCE


def test_an_image_does_not_depend_on_its_batch():
    image = torch.randint(0, 256, (3, 30, 30, 3), generator=torch.Generator().manual_seed(1))
    removed = torch.stack([holes(30, 30, share=share) for share in (0.1, 0.6, 0.95)])
    alone = torch.cat([fill.impute(image[i : i + 1], removed[i : i + 1]) for i in range(3)])
    assert torch.allclose(fill.impute(image, removed), alone, atol=1e-3)


def test_bad_input():
    with pytest.raises(ValueError, match="`removed` leaves no pixel"):
        fill.impute(ramp(4, 4), torch.ones(1, 4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"`removed` has shape \(1, 4, 5\), the images have \(1, 4, 4\)"):
        fill.impute(ramp(4, 4), torch.zeros(1, 4, 5, dtype=torch.bool))


def test_a_solution_that_is_not_reached_is_an_error(monkeypatch):
    monkeypatch.setattr(fill, "_MOST_ROUNDS", 1)
    with pytest.raises(RuntimeError, match=r"imputation has not come within 0\.05 gray levels after 1 rounds"):
        fill.impute(255 * holes(1, 40, 40, 1, share=0.5).float(), holes(1, 40, 40, share=0.9, seed=1))
