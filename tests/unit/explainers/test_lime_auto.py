"""`n_samples: auto` of LIME: what halves of the samples share, where it stops, and that it changes nothing else."""

import numpy as np
import pytest
import torch
from unitlens.explainers import lime, lime_samples, run, segment, surrogate
from unitlens.storage import shards

TARGET = torch.tensor([0])
GRID = {"method": "grid", "size": 4}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


IMAGES = torch.randint(0, 256, (2, 16, 16, 3), generator=seeded(1), dtype=torch.uint8)
CLEAR = torch.cat([torch.linspace(1, 0.6, 5), torch.zeros(11)]).double()  # the effects of 16 superpixels
TIED = torch.ones(16).double()


def planted(effects, noise=0.3):
    """A network that adds up the effects of the visible superpixels of each of `IMAGES`, with noise of the pixels."""

    def predict(batch):
        corners = [batch[:, ::4, ::4] == image[::4, ::4] for image in IMAGES]
        shown = torch.stack([corner.all(3).flatten(1) for corner in corners])  # (images, b, superpixels)
        own = shown.sum(2).argmax(0)
        score = (shown[own, torch.arange(len(batch))].double() * torch.stack(effects)[own]).sum(1)
        return (score + noise * torch.sin(1e4 * batch.double().mean((1, 2, 3))))[:, None].expand(-1, 2) / 20

    return predict


def explain(predict, images=IMAGES, **options):
    targets, segments = TARGET.expand(len(images)), segment.grid(images, size=4)
    return lime.explain(predict, images, segments, targets, seeds=range(len(images)), batch_size=500, **options)


def linear(n_samples, seed, design, noise=1.5):
    z = lime_samples.perturbations(12, n_samples, seeded(seed), design=design)
    errors = torch.randn(n_samples, generator=seeded(seed + 10**6), dtype=torch.float64)
    return z, z.double() @ torch.linspace(1, 0, 12, dtype=torch.float64) + noise * errors


def top(coefficients):
    return surrogate.largest(coefficients, 5)


@pytest.mark.parametrize("design", lime_samples.DESIGNS)
def test_halves_share_what_independent_draws_of_half_as_many_samples_share(design):
    paired = lime_samples.is_paired(design)
    options = {"options": surrogate.DEFAULTS, "top": 5, "paired": paired}
    expected = [surrogate.shared_by_halves(*linear(401, seed, design), seed=seed, **options) for seed in range(60)]
    draws = [top(surrogate.fit(*linear(201, seed, design)).coefficients[0]) for seed in range(100, 340)]
    real = [(a & b).sum().item() / 5 for a, b in zip(draws[::2], draws[1::2], strict=True)]
    assert 0.6 < np.mean(real) < 0.9
    assert torch.cat(expected).mean().item() == pytest.approx(np.mean(real), abs=0.04)  # standard error 0.014


@pytest.mark.parametrize(("design", "fewest", "most"), [("bernoulli", 250, 4000), ("balanced", 251, 4001)])
def test_clear_effects_take_few_samples_and_ties_take_all(design, fewest, most):
    result = explain(planted([CLEAR, TIED]), n_samples="auto", design=design)
    assert result.n_used.tolist() == [fewest, most]
    assert result.coefficients[0].topk(5).indices.sort().values.tolist() == [0, 1, 2, 3, 4]


def test_an_image_that_reaches_the_most_says_what_its_halves_share():
    explainer = run.lime_explainer(
        planted([CLEAR, TIED]), seed=3, batch_size=500, n_samples="auto", superpixels=GRID, hide="mean", num_features=5
    )
    own = explainer(IMAGES, TARGET.expand(2), ["a", "b"])
    assert own["n_used"].tolist() == [250, 4000]
    assert own["shared_top"][0] >= 0.9 > own["shared_top"][1] > 0.2


@pytest.mark.parametrize("design", lime_samples.DESIGNS)
def test_auto_gives_byte_for_byte_what_the_number_gives_in_any_shard(design):
    options = {"seed": 3, "batch_size": 64, "superpixels": GRID, "hide": "noise", "num_features": 5, "design": design}
    predict = planted([CLEAR, TIED])

    def explained(rows, n_samples):
        explainer = run.lime_explainer(predict, n_samples=n_samples, **options)
        arrays = explainer(IMAGES[rows], TARGET.expand(len(rows)), [f"image {row}" for row in rows])
        return {name: values.numpy() for name, values in arrays.items()} | {"image_id": np.array(rows).astype(str)}

    whole = explained([0, 1], "auto")
    numbers = whole["n_used"].tolist()
    assert numbers[0] < numbers[1]
    fixed = [explained([row], number) for row, number in enumerate(numbers)]
    joined = shards.join([(arrays, {}) for arrays in fixed])[0]  # of shards whose predictions differ in width
    assert joined["predictions"].shape == (2, numbers[1]) and np.isnan(joined["predictions"][0, numbers[0] :]).all()
    apart = shards.join([(explained([row], "auto"), {}) for row in (0, 1)])[0]
    assert whole.keys() == joined.keys() == apart.keys()
    for name, values in whole.items():
        assert values.tobytes() == joined[name].tobytes() == apart[name].tobytes(), name
    kept = lime_samples.kept(whole, "cpu")
    assert [len(own) for own in kept] == numbers == lime_samples.used_by_auto(whole, "auto")
    assert lime_samples.used_by_auto(whole, 250) == []


def test_every_target_has_to_be_settled():
    def predict(batch):
        return torch.stack([each(batch)[:, 0] for each in (planted([CLEAR, CLEAR]), planted([TIED, TIED]))], 1)

    result = lime.explain(
        predict,
        *(IMAGES[:1], segment.grid(IMAGES[:1], size=4), torch.tensor([[0, 1]])),
        seeds=[0],
        batch_size=500,
        n_samples="auto",
    )
    assert result.n_used.tolist() == [4000]


def test_looks_keep_pairs_together(monkeypatch):
    seen, right = [], lime_samples.shared_by_halves

    def watch(design, predictions, *rest, **options):
        seen.append(design)
        assert options["paired"] and len(design) == len(predictions)
        return right(design, predictions, *rest, **options)

    monkeypatch.setattr(lime_samples, "shared_by_halves", watch)
    explain(planted([TIED, TIED]), IMAGES[:1], n_samples="auto", design="balanced")
    assert [len(design) for design in seen] == [251, 501, 1001, 2001]
    assert all(torch.equal(design[1::2], 1 - design[2::2]) for design in seen)


def test_the_seed_alone_deals_the_halves():
    design, predictions = linear(300, 1, "bernoulli")
    options = {"options": surrogate.DEFAULTS, "top": 5}
    shared = [surrogate.shared_by_halves(design, predictions, seed=seed, **options).item() for seed in (1, 1, 2)]
    assert shared[0] == shared[1] != shared[2]
    assert shared[0] == pytest.approx(shared[2], abs=0.1)


def test_nothing_is_settled_by_samples_that_are_too_few_for_a_fit_without_a_penalty():
    images, labels = IMAGES[:1], torch.arange(256).view(1, 16, 16)  # more superpixels than the first 250 samples

    def obvious(batch):
        return (batch == images).all(3).double()[:, 0, :2]

    options = {"seeds": [0], "batch_size": 500, "n_samples": "auto", "num_features": 1, "alpha": 0.0}
    assert lime.explain(obvious, images, labels, TARGET, **options).n_used.tolist() == [500]


def test_errors_that_are_not_known_settle_nothing():
    design = torch.eye(5)  # each sample alone decides its superpixel: it has no residual, and nothing is left of it
    options = {"options": surrogate.DEFAULTS._replace(alpha=0.0, distance="l2", kernel_width=9.0), "top": 2, "seed": 0}
    shared = surrogate.shared_by_halves(torch.cat([design[:1] + 1 - design[:1], design]), torch.arange(6.0), **options)
    assert shared.tolist() == [0]


def test_a_constant_network_is_settled_at_once():
    result = explain(lambda batch: torch.full((len(batch), 2), 0.5), n_samples="auto")
    assert result.n_used.tolist() == [250, 250] and not result.coefficients.any()
