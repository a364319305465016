"""Checks against the reference packages: they pass for what is right, and name what is wrong."""

from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from unitlens.explainers import cam, items, lime, segment
from unitlens.measures import reference_checks as measures_reference_checks
from unitlens.networks.network import normalizer
from unitlens.tables import sanity

SIZE = 32
ACCOUNTS = ["account, map", "account, sum"]
CHECKS = [*measures_reference_checks.GRAD_CAM, *ACCOUNTS, "quickshift", "lime"]


@pytest.fixture(autouse=True)
def one_thread():
    """Small batches gain nothing from threads, which stall on a machine that runs other things."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 6, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
        )
    return network.eval().requires_grad_(False)


@pytest.fixture
def compare(model):
    """Compare on two images of 25 colored blocks."""
    coarse = torch.rand(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    images = nn.functional.interpolate(coarse, (SIZE, SIZE)).mul(255)
    images = images.permute(0, 2, 3, 1).to(torch.uint8)
    normalize = normalizer([0.5] * 3, [0.25] * 3, device="cpu")

    def run(
        cams=measures_reference_checks.GRAD_CAM,
        *,
        layer="3",
        choose=lambda logits: logits.argmax(1),
        samples=40,
        **lime_options,
    ):
        made = measures_reference_checks.compare(
            model,
            normalize,
            images,
            choose(model(normalize(images))),
            ["first", "second"],
            name="toy",
            layer=layer,
            cams=cams,
            lime_options={"superpixels": {"method": "quickshift", "max_dist": 10}, "hide": "mean"} | lime_options,
            samples=samples,
            batch_size=7,
            seed=42,
        )
        return tuple(map(pd.DataFrame, made))

    return run


def against_packages(differences):
    """Leave out the rows that compare our own explainers in two precisions."""
    return differences[differences.reference != "float32"]


def test_a_method_without_a_reference_is_told_and_does_not_fail_the_run(compare, monkeypatch):
    assert set(measures_reference_checks.GRAD_CAM) <= set(cam.METHODS)
    monkeypatch.setattr(
        measures_reference_checks,
        "GRAD_CAM",
        {
            each: measures_reference_checks.GRAD_CAM[each]
            for each in measures_reference_checks.GRAD_CAM
            if each != "layercam"
        },
    )
    differences, timings = compare()
    row = differences.set_index("check").loc["layercam"]
    assert row.reference == "none" and row.images == 0 and row.note == "grad-cam has no such map"
    assert "layercam" not in set(timings.check)
    sanity.require_passed(differences)


def test_tables(compare):
    differences, timings = compare()
    differences = against_packages(differences)
    assert list(differences) == [
        *["model", "check", "reference", "images", "largest_difference", "tolerance", "passed", "note"]
    ]
    assert list(timings) == [
        *["model", "check", "reference", "images", "seconds_ours", "seconds_reference", "speed_ratio"],
        *["device", "threads"],
    ]
    assert differences.check.tolist() == timings.check.tolist() == CHECKS
    assert set(differences.model) == {"toy"} and set(differences.images) == {2}
    allowed = differences.set_index("check").tolerance
    assert (allowed["gradcam"], allowed["lime"]) == (1e-3, 1e-6), "a quarter of a step of color, and rounding"
    assert allowed["account, sum"] == 1e-4
    packages = ["grad-cam"] * 8 + ["network", "scikit-image", "lime"]
    assert differences.reference.tolist() == [
        name if name == "network" else f"{name} {version(name)}" for name in packages
    ]
    np.testing.assert_allclose(timings.speed_ratio, timings.seconds_reference / timings.seconds_ours)


def test_right_results_pass(compare):
    differences = against_packages(compare()[0])
    assert differences.passed.all()
    sanity.require_passed(differences)
    largest = differences.set_index("check").largest_difference
    assert (
        largest[[*measures_reference_checks.GRAD_CAM, *ACCOUNTS]].max() < 1e-5
        and largest["quickshift"] == 0
        and largest["lime"] < 1e-12
    )


def test_differences_are_the_same_every_time(compare):
    pd.testing.assert_frame_equal(compare()[0], compare()[0], check_exact=True)


@pytest.mark.parametrize("method", measures_reference_checks.GRAD_CAM)
def test_a_wrong_map_is_detected(compare, monkeypatch, method):
    right = cam.explain
    monkeypatch.setattr(cam, "explain", lambda *args, **options: right(*args, **options).transpose(1, 2))
    (row,) = compare([method], superpixels={"method": "grid", "size": 8})[0].query("passed == False").itertuples()
    assert row.check == method and row.largest_difference > 0.01


def test_one_wrong_pixel_of_the_second_map_is_detected_and_named(compare, monkeypatch):
    calls = []

    def wrong(model, layer, images, targets, **options):
        maps = right(model, layer, images, targets, **options)
        calls.append(images)
        maps[0, 3, 4] += 0.002 if not torch.equal(images, calls[0]) else 0
        return maps

    right = cam.explain
    monkeypatch.setattr(cam, "explain", wrong)
    differences, _ = compare(["gradcam"])
    message = r": toy: gradcam differs from grad-cam [\d.]+ by 0.002, allowed: 0.001$"  # and nothing else is named
    with pytest.raises(ValueError, match=message):
        sanity.require_passed(differences)


def test_faster_arithmetic_is_compared_and_nothing_demanded(model, compare, tmp_path):
    """bf16 keeps 8 bits: visible, small differences; the strict network is left as it was."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    differences, _ = compare(["gradcam", "ablationcam"], superpixels={"method": "grid", "size": 8})
    effects = differences[differences.reference == "float32"]
    assert effects.check.tolist() == ["gradcam", "ablationcam", "lime"]
    assert effects.largest_difference.between(1e-6, 0.2).all() and set(effects.note) == {"bf16: for information"}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    differences.to_csv(tmp_path / "differences.csv", index=False)
    sanity.require_passed(pd.read_csv(tmp_path / "differences.csv"))


def test_a_wrong_superpixel_is_detected(compare, monkeypatch):
    right = segment.SUPERPIXELS["quickshift"]

    def wrong(images, **options):
        labels = right(images, **options)
        labels[:, 0, 0] = labels[:, -1, -1]
        return labels

    monkeypatch.setitem(segment.SUPERPIXELS, "quickshift", wrong)
    differences, _ = compare([])
    with pytest.raises(ValueError, match=r": toy: quickshift differs from scikit-image .* by 0.000977, allowed: 0$"):
        sanity.require_passed(differences)


def test_a_wrong_coefficient_is_detected(compare, monkeypatch):
    def wrong(*args, **options):
        result = right(*args, **options)
        result.coefficients[0, 1] += 1e-5
        return result

    right = lime.explain
    monkeypatch.setattr(lime, "explain", wrong)
    differences, _ = compare([])
    with pytest.raises(ValueError, match=r": toy: lime differs from lime .* by 1e-05, allowed: 1e-06$"):
        sanity.require_passed(differences)


def test_nan_does_not_pass(compare, monkeypatch):
    monkeypatch.setattr(cam, "explain", lambda *args, **options: torch.full((1, SIZE, SIZE), torch.nan))
    differences, _ = compare(["gradcam"])
    with pytest.raises(ValueError, match=r"toy: gradcam differs from grad-cam .* by nan"):
        sanity.require_passed(differences)


@pytest.mark.parametrize(
    "options",
    [{"layer": "2"}, {"choose": lambda logits: logits.argmin(1)}],
    ids=["values below 0", "logit below 0"],
)
def test_ablation_is_compared_by_the_formula_where_grad_cam_departs_from_it(compare, options):
    row = compare(["ablationcam"], **options)[0].iloc[0]
    assert row.largest_difference < 1e-5 and "sets channels to 0" in row.note


def test_only_what_the_run_uses_is_checked(compare):
    differences = against_packages(compare(["layercam"], superpixels={"method": "grid", "size": 8}, hide="gray")[0])
    assert differences.check.tolist() == ["layercam", *ACCOUNTS, "lime"] and differences.passed.all()
    assert set(differences.note) == {""}


def test_what_lime_cannot_hide_behind_is_noted(compare):
    row = against_packages(compare([], hide="blur")[0]).iloc[-1]
    assert row.passed and row.note == "superpixels hidden by their mean color: lime knows no blur"


def test_the_surrogate_is_the_configured_one(compare, monkeypatch):
    options = {"distance": "l2", "kernel_width": 3.0, "alpha": 0.5, "selection": "forward_selection", "n_features": 4}
    ours, right = [], lime.explain
    monkeypatch.setattr(lime, "explain", lambda *args, **given: ours.append(given) or right(*args, **given))
    assert compare([], **options, n_samples="auto", repeats=3)[0].passed.all()
    assert options.items() <= ours[0].items()


def test_samples_grow_to_the_number_of_superpixels(compare):
    assert compare([], superpixels={"method": "grid", "size": 4}, samples=2)[0].passed.all()  # 64 superpixels


def test_too_few_samples_for_a_fit_without_a_penalty_are_listed(compare):
    differences, timings = compare(["gradcam"], samples=2, alpha=0.0)  # as many samples as superpixels
    row = against_packages(differences).iloc[-1]
    assert (row.images, row.passed) == (0, None) and np.isnan(row.largest_difference)
    assert row.note == f"without first: {items.DEPENDENT}; without second: {items.DEPENDENT}"
    assert np.isnan(timings.iloc[-1].speed_ratio) and timings.iloc[-1].seconds_ours == 0
    assert differences.query("check == 'lime' and reference == 'float32'").images.tolist() == [0]
    sanity.require_passed(differences)


def test_what_fails_on_one_image_is_left_out_on_both_sides(compare, monkeypatch):
    right = lime.explain_with_package

    def fail_on_the_first(predict, images, segments, targets, **options):
        if torch.equal(images, seen.setdefault("first", images)):
            raise items.ItemError("broken", {0: items.NOT_FINITE})
        return right(predict, images, segments, targets, **options)

    seen = {}
    monkeypatch.setattr(lime, "explain_with_package", fail_on_the_first)
    differences, timings = compare(["gradcam"])
    gradcam, *_, row = against_packages(differences).itertuples()
    assert (gradcam.images, row.images) == (2, 1) and gradcam.passed and row.passed and not gradcam.note
    assert row.note == f"without first: {items.NOT_FINITE}"
    assert timings.images.tolist() == [2, 2, 2, 2, 1] and timings.speed_ratio.notna().all()


def test_an_image_without_a_label_is_left_out_of_every_check_and_one_of_one_superpixel_of_lime_alone(compare):
    unlabeled = against_packages(compare(["gradcam"], choose=lambda logits: torch.tensor([-1, 2]))[0])
    assert unlabeled.check.tolist() == ["gradcam", *ACCOUNTS, "quickshift", "lime"]
    assert unlabeled.images.tolist() == [1, 1, 1, 2, 1] and unlabeled.passed.all()
    assert set(unlabeled.note.drop(3)) == {f"without first: {items.NO_LABEL}"}
    whole = against_packages(compare(["gradcam"], superpixels={"method": "grid", "size": SIZE})[0])
    assert whole.images.tolist() == [2, 2, 2, 0]
    assert whole.note.iloc[-1] == "; ".join(f"without {name}: {items.ONE_SUPERPIXEL}" for name in ("first", "second"))


def test_long_calls_are_not_repeated(monkeypatch):
    calls = []
    assert measures_reference_checks._timed(lambda i: calls.append(i) or np.zeros(1), range(2)).arrays == {0: 0, 1: 0}
    assert calls == [0, 1, 0, 1]
    monkeypatch.setattr(measures_reference_checks, "_LONG_SECONDS", 0.0)
    measures_reference_checks._timed(lambda i: calls.append(i) or np.zeros(1), range(2))
    assert calls == [0, 1, 0, 1, 0, 1]
