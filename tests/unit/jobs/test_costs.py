"""What a plan says that it will cost, beside sums by hand."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
from unitlens.jobs import costs

ROWS = {"probe": 2500, "explain": 12, "annotated": 300}


@pytest.fixture
def config(tmp_path):
    (tmp_path / "words.csv").write_text("word,category\nred,color\nblue,color\n")
    models = {
        name: {"preprocessing": {"crop": crop}, "layers": layers}
        for name, crop, layers in (("a", 224, ["1", "2"]), ("b", [112, 224], []))
    }
    return {
        "models": models,
        "images": {"probe": {"shard_size": 1000}, "explain": {"shard_size": 10}},
        "encoder": {"kind": "clip"},
        "concepts": {"list": str(tmp_path / "words.csv"), "common_words": 8},
        "explain": {"target": "predicted", "cams": ["gradcam", "scorecam"], "lime": {"n_samples": 500}},
        "switch_off": {"units": [1, 5, 20]},
        "faithfulness": {"steps": 12, "baselines": ["blur", "mean"], "percentiles": [10, 50]},
        "sanity": {"n_images": 5, "cams": ["gradcam"], "stages": 4, "seeds": 3, "samples": [100, 200]},
        "verify": {"n_images": 1},
        "tune": {"n_images": 11, "grid": {"superpixels": [{}, {}], "hide": ["mean", "gray", "blur"]}},
    }


def test_things_of_a_job_are_counted(config):
    first = costs.things(config, {"model": "a", "method": "scorecam", "shard": "00000"}, ROWS.get)
    assert first == {
        "shard": 10,
        "probe shard": 1000,
        "encoded": 26_000,
        "probe": 2500,
        "annotated": 2500,  # the probe set's, where no set is annotated
        "explain": 12,
        "words": 10,
        "pairs": 25_000,
        "cams": 5120,
        "samples": 5000,
        "switched off": 60,
        "curves": 10 * 2 * 3 * (2 * 2 * 10 + 2 * 2 + 1),
        "seeds": 5 * 2 * 500,
        "settings": 10 * 6 * 500,
        "stages": 25,
        "verified": 1,
        "maps": 30,
        "map pairs": 30,
        "layers": 2,
    }
    last = costs.things(config | {"images": config["images"] | {"annotated": {}}}, {"shard": "00001"}, ROWS.get)
    assert (last["shard"], last["settings"], last["cams"], last["annotated"]) == (2, 2 * 6 * 500, 4, 300)
    decoded = costs.things(config, {"dataset": "probe", "shard": "00002"}, ROWS.get)
    assert decoded["shard"] == decoded["probe shard"] == 500
    bare = {key: value for key, value in config.items() if key not in ("concepts", "encoder", "tune")}
    assert {costs.things(bare, {}, ROWS.get)[name] for name in ("words", "pairs", "settings")} == {0}


def test_auto_is_taken_for_a_mean_number_of_samples(config):
    config["explain"]["lime"]["n_samples"] = "auto"
    counted = costs.things(config, {"shard": "00000"}, ROWS.get)
    assert counted["samples"] == 2500 * counted["shard"]
    assert counted["seeds"] % 2500 == 0 < counted["seeds"]


def test_every_rate_is_of_things_that_are_counted(config):
    known = costs.things(config, {}, ROWS.get)
    assert {rate.things for rates in costs.RATES.values() for rate in rates} <= set(known)


def test_the_rates_are_those_of_the_document_and_no_rate_is_nothing():
    assert all(rate[1:] != costs.Rate("")[1:] for rates in costs.RATES.values() for rate in rates)
    (labels,), (rarefied,), (decode,) = (costs.RATES[name] for name in ("label_units", "rarefy_probe", "decode_images"))
    (masks,), (classes,) = costs.RATES["dissect_network"], costs.RATES["summarize_accounts"]
    (controls,) = costs.RATES["score_words"]
    page = (Path(__file__).parents[3] / "docs/full-scale.md").read_text(encoding="utf-8")
    for told in (
        f"{costs.GPU_START:g} s a start with a GPU",
        f"{costs.CPU_START:g} s a start without",
        f"a prediction: {1e3 * costs.GPU_PASS:g} ms of an H100, {1e3 * costs.CPU_PASS:g} ms of a core",
        f"labels, {1e6 * labels.seconds:g} s for a million pairs",
        f"decoding, {1e3 * decode.seconds:g} ms and {decode.kilobytes} kB a source image",
        f"class pages, {1e3 * classes.seconds:g} ms an explained source image",
        f"Network Dissection, {1e3 * masks.seconds:g} ms a source image",
        f"controls of words, {1e6 * controls.seconds:.2g} s for a million pairs",
    ):
        assert f"| {told}" in page
    assert rarefied == labels


def test_disk_is_that_of_the_numbers_that_are_kept():
    """CLIP's ViT-B/16 has 512 features, a map 224 x 224 pixels, each a number of 4 bytes."""
    kept = {name: [rate.kilobytes for rate in rates if rate.kilobytes] for name, rates in costs.RATES.items()}
    assert kept["embed_images"] == kept["embed_concepts"] == [512 * 4 / 1024]
    assert kept["explain_cam"] == kept["explain_perturbed"] == [224 * 224 * 4 / 1024]


def test_costs_of_jobs_add_up(config):
    lime = ("explain_perturbed", {"model": "a", "shard": "00000"})
    (gpu,) = costs.estimate([(*lime, True)], config, ROWS.get).values()
    assert gpu == pytest.approx((1, costs.GPU_START + 5000 * 5.6e-5, 0, 10 * 196e-6))
    (cpu,) = costs.estimate([(*lime, False)] * 2, config, ROWS.get).values()
    assert cpu == pytest.approx((2, 0, 2 * (3.5 + 5000 * 0.017), 20 * 196e-6))
    (half,) = costs.estimate(
        [("explain_perturbed", {"model": "b", "shard": "00000"}, False)], config, ROWS.get
    ).values()
    assert half == pytest.approx((1, 0, 3.5 + 5000 * 0.017 / 2, 10 * 98e-6))  # half as many pixels
    wildcards = {"dataset": "probe", "geometry": "short256-crop112x224-bilinear", "shard": "00000"}
    (decoded,) = costs.estimate([("decode_images", wildcards, False)], config, ROWS.get).values()
    assert decoded == pytest.approx((1, 0, 3.5 + 5, 0.086))
    assert costs.estimate([("write_tables", {}, False)], config, ROWS.get)["write_tables"] == (1, 0, 3.5, 0)


def test_what_a_gpu_waits_for_counts_as_its_time(config):
    (cost,) = costs.estimate([("dissect_network", {"model": "a", "layer": "1"}, True)], config, ROWS.get).values()
    assert cost.gpu == pytest.approx(costs.GPU_START + 2500 * (4 * 5.6e-5 + 0.0015)) and cost.cpu == 0
    job = ("extract_activations", {"model": "a", "shard": "00000"}, True)
    (cost,) = costs.estimate([job], config, ROWS.get).values()
    assert cost == pytest.approx((1, costs.GPU_START + 1000 * (5.6e-5 + 1e-4), 0, 1000 * 1.2e-6))


def test_rules_of_little_cost_are_told_together():
    some = {"a": costs.Cost(2, 6000, 0, 1), "b": costs.Cost(1, 0, 90, 0), "c": costs.Cost(3, 0, 0.6, 0)}
    dearest = costs.tell(some | {"e": costs.Cost(1, 0, 120, 0)}).splitlines()[2:5]
    assert [line.split()[0] for line in dearest] == ["a", "e", "b"]
    lines = costs.tell(some | {"d": costs.Cost(1, 0, 0.6, 0)}).splitlines()
    assert "ResNet-18" in lines[0] and "docs/full-scale.md" in lines[0]
    assert [line.split() for line in lines[2:]] == [
        ["a", "2", "100.0", "0.0", "1.0"],
        ["b", "1", "0.0", "1.5", "0.0"],
        ["2", "other", "rules", "4", "0.0", "0.0", "0.0"],
        ["all", "7", "100.0", "1.5", "1.0"],
    ]


def test_the_estimate_stands_below_every_count_of_jobs_of_a_plan_and_of_no_run(config):
    jobs = []
    for rule, gpu in (("write_tables", None), ("embed_concepts", 1)):
        resources = {"gpu": SimpleNamespace(value=gpu)}
        jobs.append(SimpleNamespace(rule=SimpleNamespace(name=rule, resources=resources), wildcards={}))
    workflow = SimpleNamespace(dryrun=True, dag=SimpleNamespace(needrun_jobs=lambda: list(jobs)))
    logger, printed = logging.Logger("plan"), []
    logger.addHandler(logging.Handler())
    logger.handlers[0].emit = lambda record: printed.append(record.getMessage())
    costs.show_in_a_plan(workflow, logger, config, ROWS.get)
    logger.info("Job stats: 100 %", extra={"event": "run_info"})
    jobs.clear()  # nothing is needed any more after the jobs were shown
    logger.info("Job stats: 100 %", extra={"event": "run_info"})
    logger.info("a job", extra={"event": "job_info"})
    workflow.dryrun = False
    logger.info("Job stats", extra={"event": "run_info"})
    assert printed[0] == printed[1] and printed[2:] == ["a job", "Job stats"]
    assert printed[0].startswith("Job stats: 100 %\n") and " 0.3 " in printed[0].splitlines()[-1]


def test_a_plan_that_cannot_be_read_is_shown_without_an_estimate(config):
    logger = logging.Logger("plan")
    costs.show_in_a_plan(SimpleNamespace(dryrun=True), logger, config, ROWS.get)
    record = logging.makeLogRecord({"msg": "Job stats", "event": "run_info"})
    assert logger.filter(record)
    assert "There is no estimate (AttributeError" in record.getMessage()
