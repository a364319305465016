"""ROAD's imputation against `grad-cam`, without noise, on source images and on holes of every kind.

Tolerance: half a gray level of 256, which is what is lost in rounding to whole levels (about 0.15 on one machine).
"""

import pytest
import torch
import torchvision
from skimage import data, transform
from unitlens.images import fill
from unitlens.measures import faithfulness, perturbation

road = pytest.importorskip("pytorch_grad_cam.metrics.road")

SIDE = 113


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small batches gain nothing from threads, which stall on a machine that runs other things."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def one_image():
    return torch.as_tensor(transform.resize(data.astronaut(), (SIDE, SIDE)) * 255).round().to(torch.uint8)


def orders():
    generator = torch.Generator().manual_seed(0)
    blobs = torch.rand(1, 1, 6, 6, generator=generator)
    distance = torch.linspace(-1, 1, SIDE).square()
    return {
        "scattered pixels": torch.rand(SIDE, SIDE, generator=generator),
        "blobs": torch.nn.functional.interpolate(blobs, (SIDE, SIDE), mode="bicubic")[0, 0],
        "a disc": -(distance[:, None] + distance),
        "a half": torch.arange(SIDE).float().expand(SIDE, SIDE),
    }


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("name", orders())
def test_imputation_is_that_of_grad_cam(one_image, name, share):
    order = orders()[name] + 1e-6 * torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    removed = order.flatten().argsort(descending=True).argsort().view(SIDE, SIDE) < share * SIDE**2
    ours = fill.impute(one_image[None], removed[None])[0]
    theirs = road.NoisyLinearImputer(noise=0)(one_image.permute(2, 0, 1).float(), (~removed).float())
    assert (ours - theirs.permute(1, 2, 0)).abs().max() < 0.5


@pytest.mark.parametrize("order", ["morf", "lerf"])
def test_probabilities_are_those_of_grad_cam(one_image, monkeypatch, order):
    """On a map without ties, noise switched off on both sides; rounding to gray levels moves them by under 0.3 %."""
    monkeypatch.setattr(perturbation, "_NOISE", 0.0)
    torch.manual_seed(0)
    network = torchvision.models.squeezenet1_1().eval().requires_grad_(False)
    saliency, target = orders()["blobs"], 7
    remove = {"morf": road.RemoveMostRelevantFirst, "lerf": road.RemoveLeastRelevantFirst}[order]

    def theirs(removed):
        metric = road.PerturbationConfidenceMetric(remove(100 - removed, road.NoisyLinearImputer(noise=0)))
        score = [lambda logits: logits.softmax(0)[target]]
        image = one_image.permute(2, 0, 1)[None] / 255
        return metric(image, saliency[None].numpy(), score, network, return_diff=False)[0]

    curve, _ = faithfulness.road(
        lambda images: network(images.permute(0, 3, 1, 2) / 255).softmax(1),
        one_image[None],
        saliency[None],
        torch.tensor([target]),
        percentiles=[20, 50, 80],
        order=order,
    )
    assert curve[0].tolist() == pytest.approx([theirs(removed) for removed in (20, 50, 80)], rel=3e-3)


def test_the_reference_removes_all_of_a_sparse_map():
    """What is departed from: a fifth is to go, but all zeros of the map are as salient as the threshold."""
    sparse = torch.zeros(SIDE, SIDE)
    sparse[:20, :20] = 1
    remove = road.RemoveMostRelevantFirst(80, lambda image, kept: kept)
    assert remove(torch.zeros(3, SIDE, SIDE), sparse).sum() == 0
