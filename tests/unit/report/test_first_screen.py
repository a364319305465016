"""The first screen answers from the tables, in few words, and draws no verdict from labels that are not selective."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from unitlens.report import first_screen, read_first, samples
from unitlens.storage.arrays import write_arrays
from unitlens.tables import unit_labels

ALPHA = {"alpha": 0.05, "encoder": "CLIP", "similarity": "soft_wpmi", "concept_list": "9 words", "source_images": 900}


def labels(*groups):
    """Make a table of labels: of (model, layer, concept, q, number) that many units."""
    rows = [[model, layer, concept, q] for model, layer, concept, q, n in groups for _ in range(n)]
    units = pd.DataFrame(rows, columns=["model", "layer", "group", "q_value"])
    known = units["q_value"].notna()
    return units.assign(
        unit=units.groupby(["model", "layer"]).cumcount(),
        candidate=units["group"],
        concept="",
        category="object",
        status=np.where(known, np.where(units["q_value"] <= 0.05, "selective", "not selective"), "dead"),
        kept=np.where(known, 0.25, np.nan),
        held_out_correlation=0.3,
        **ALPHA,
    )


def frequent(**counts):
    rows = [("m", "all", name, 0, n) for name, n in counts.items()]
    return pd.DataFrame(rows, columns=["model", "layer", "concept", "units", "others"])


def varied(model, units, concepts, category="object"):
    """Make labels of so many selective units, with so many concepts."""
    return labels(*((model, model, f"{i % concepts}", 0.01, 1) for i in range(units))).assign(category=category)


def masks(*counts):
    """Make a table of Network Dissection: of (status, concept, number) that many units."""
    rows = [("m", "x", status, concept) for status, concept, n in counts for _ in range(n)]
    units = pd.DataFrame(rows, columns=["model", "layer", "status", "mask_concept"])
    q = units["status"].map({"named": 0.01, "selective": 0.02}).fillna(0.9)
    return units.assign(masks="masks", annotated_source_images=240, mask_category="color", iou=0.1, q_value=q)


def pairs(*means):
    rows = [("m", "all", a, b, "equal_area_iou", 0.2, 10, mean, 0.2, 0.11) for a, b, mean in means]
    columns = ["model", "subset", "explainer_a", "explainer_b", "measure", "cut", "n", "mean", "chance", "floor"]
    return pd.DataFrame(rows, columns=columns)


def correlations(p, value=-0.7):
    row = {"model": "m", "agreement": "mean of all pairs", "measure": "edge_density", "source_images": 24}
    return pd.DataFrame([row | {"correlation": value, "low": -0.9, "high": -0.2, "p_adjusted": p}])


SELECTIVE = labels(("m", "x", "dog", 0.01, 30), ("m", "x", "cat", 0.9, 50), ("m", "x", "", None, 2))
TABLES = {
    "concepts": SELECTIVE,
    "frequent": frequent(dog=20, fence=10),
    "agreement": pairs(("gradcam-x", "ablationcam-x", 0.74), ("gradcam-x", "lime", 0.28)),
    "complexity": correlations(0.4),
}
EXAMPLE = {"model": "m", "image_id": "a", "predicted": "toucan", "probability": 0.69, "images": []}


def verdicts(example=None, **tables):
    made = first_screen.tiles(TABLES | tables, area=0.2, example=example)
    assert [tile["question"] for tile in made] == [
        "Which concepts do most units carry?",
        "How do the networks differ?",
        "How many concepts?",
        "What do the explainers look at?",
        "How far do they agree?",
        "Does a simple image help?",
    ]
    assert all(len(tile["verdict"].split()) <= 12 for tile in made if tile["verdict"])
    return [tile["verdict"] for tile in made], made


TWO = pd.concat([SELECTIVE, labels(("k", "y", "sky", 0.01, 40))])
VARIED = pd.concat([varied("m", 99, 5), labels(("m", "m", "x", 0.01, 1)), varied("k", 70, 60)])


@pytest.mark.parametrize(
    ("number", "tables", "verdict"),
    [
        (0, {}, "dog: best word of 20 of 30 selective units."),
        (0, {"frequent": frequent(dog=1, cat=1)}, "Cannot be told from 2 selective units."),
        (0, {"frequent": frequent(**{f"word{i}": 1 for i in range(20)})},
         "None stands out: every concept is that of one selective unit."),
        (0, {"frequent": frequent()}, "None: no unit is selective."),
        (0, {"frequent": frequent(dog=20, cat=9).assign(units=[0, 25])}, "cat: names 25 of 25 named units."),
        (0, {"frequent": frequent(dog=20, cat=9).assign(units=[0, 2])}, "Cannot be told from 2 named units."),
        (0, {"netdissect": masks(("named", "dotted", 30), ("named", "blue", 1), ("selective", "red", 9))},
         "dotted: 30 of 31 units that masks name."),
        (0, {"netdissect": masks(("named", "dotted", 3))}, "Cannot be told from 3 named units."),
        (1, {}, "Only one network was labeled."),
        (1, {"concepts": TWO}, "No difference in variety is shown; none in categories."),
        (1, {"concepts": VARIED}, "k is more varied; none in categories."),
        (1, {"concepts": VARIED.assign(category=VARIED["model"])}, "k is more varied; 2 categories differ."),
        (1, {"concepts": pd.concat([VARIED, varied("l", 70, 60)])},
         "2 of 3 pairs differ in variety, none in categories."),
        (1, {"concepts": pd.concat([SELECTIVE, labels(("k", "y", "sky", 0.01, 19))])},
         "Cannot be told: too few selective units."),
        (1, {"netdissect": pd.concat([masks(("named", "red", 19)), masks(("named", "red", 30)).assign(model="k")])},
         "Cannot be told: too few named units."),
        (1, {"netdissect": pd.concat([masks(("named", "red", 29)), masks(("named", "red", 30)).assign(model="k")])},
         "No difference in variety is shown; none in categories."),
        (2, {}, "1 concept in 30 selective units."),
        (2, {"concepts": TWO}, "1 and 1 concepts in 30 and 40 selective units."),
        (2, {"concepts": labels(("m", "x", "dog", 0.01, 3), ("m", "x", "cat", 0.2, 30))},
         "Cannot be told from 3 selective units."),
        (2, {"concepts": labels(("m", "x", "dog", 0.2, 3))}, "None that is better than chance."),
        (2, {"netdissect": masks(("named", "dotted", 30), ("named", "blue", 1))}, "2 concepts in 31 named units."),
        (2, {"concepts": pd.concat([TWO, varied("l", 70, 60)])}, "1 to 60 concepts a network."),
        (4, {}, "Grad-CAM and Ablation-CAM agree most (0.74), Grad-CAM and LIME least (0.28)."),
        (0, {"frequent": frequent(zebra=20, ant=20)}, "zebra: best word of 20 of 40 selective units."),
        (4, {"agreement": pairs(("gradcam-x", "lime", 0.5), ("scorecam-x", "lime", 0.9), ("random", "lime", 0.1))},
         "Score-CAM and LIME agree most (0.90), Random map and LIME least (0.10)."),
        (4, {"agreement": pairs(("gradcam-x", "lime", 0.28))}, "Grad-CAM and LIME: IoU 0.28."),
        (4, {"agreement": pairs(("gradcam-x", "lime", np.nan))}, "No two maps could be compared."),
        (5, {}, "No complexity measure is shown to relate to agreement (n = 24)."),
        (5, {"complexity": correlations(0.01)}, "Yes: agreement falls with edge density."),
        (5, {"complexity": correlations(0.01, 0.7)}, "No: agreement rises with edge density."),
        (5, {"complexity": correlations(0.01).assign(measure="confidence")},
         "No complexity measure is shown to relate to agreement (n = 24)."),
        (5, {"complexity": pd.concat([correlations(0.01), correlations(0.02, 0.7)], ignore_index=True)},
         "Mixed: measures of complexity point in both directions."),
        (5, {"complexity": correlations(np.nan, np.nan)},
         "No complexity measure is shown to relate to agreement (n = 24)."),
    ],
)  # fmt: skip
def test_verdict(number, tables, verdict):
    assert verdicts(**tables)[0][number] == verdict


def test_numbers_beside_the_verdicts_on_networks():
    _, made = verdicts(concepts=VARIED.assign(category=VARIED["model"]))
    assert made[1]["lines"] == [
        "Clearest: k, 0 % of 100 units of m and 100 % of 70 of k (difference -100.0 points, 0 if alike; p < 0.001)."
    ]
    distinct = ["m: 6 concepts in 100 selective units.", "k: 60 concepts in 70 selective units."]
    (numbers,) = made[2]["lines"][2:]
    assert made[2]["lines"][:2] == distinct
    assert numbers.startswith("Distinct concepts among 70 selective units of each: m 6, k 60 (difference -")
    assert numbers.endswith(", 0 if alike).")
    made = verdicts(concepts=labels(("m", "x", "dog", 0.01, 3), ("k", "y", "dog", 0.01, 40)))[1]
    assert made[2]["lines"] == ["m: 1 concept in 3 selective units (few).", "k: 1 concept in 40 selective units."]
    made = verdicts(concepts=labels(("m", "x", "dog", 0.01, 30), ("k", "y", "dog", 0.01, 40)))[1]
    assert made[2]["lines"][2] == (
        "Distinct concepts among 30 selective units of each: m 1, k 1 (no interval: too few units, or none makes a "
        "difference)."
    )


def localization(*differences):
    rows = [("m", "iou", name, "gaussian", d, p) for name, d, p in differences]
    columns = ["model", "measure", "explainer_a", "explainer_b", "difference", "p_adjusted"]
    return pd.DataFrame(rows, columns=columns)


@pytest.mark.parametrize(
    ("tests", "verdict"),
    [
        (None, "One image by every explainer."),
        (localization(("lime", 0.1, 0.2), ("gradcam-x", -0.2, 0.01), ("random", 0.5, 0.01)),
         "No explainer is shown to find objects better than a blob."),
        (localization(("lime", 0.1, 0.01), ("gradcam-x", 0.2, 0.06)),
         "1 of 2 comparisons find objects better than a centered blob."),
    ],
)  # fmt: skip
def test_an_image_is_shown_with_what_is_known_of_the_objects(tests, verdict):
    tables = {} if tests is None else {"localization_tests": tests}
    scores = pairs(("gradcam-x", "lime", 0)).assign(value=0.3691, image_id="a")
    found, made = verdicts(example=EXAMPLE, agreement_scores=scores, **tables)
    assert found[3] == verdict
    assert made[3]["lines"] == ["m: toucan, p = 0.69 · IoU with Grad-CAM: LIME 0.37."]


def test_without_tables_every_tile_waits():
    made = first_screen.tiles({}, area=0.2, example=None)
    assert [tile["verdict"] for tile in made] == [None] * 6


def test_one_selective_unit_is_singular():
    units = labels(("m", "x", "dog", 0.2, 9), ("m", "x", "cat", 0.04, 1))
    assert read_first.sentences({"concepts": units})[0].startswith(
        "1 of 10 active units (10 %) match some concept of the list better than chance (q ≤ 0.05). That makes it "
    )


def test_read_first_says_what_annotations_name_where_they_take_the_place_of_an_encoder():
    units = labels(("m", "x", "red", 0.01, 5), ("m", "x", "blue", 0.5, 3)).assign(encoder=unit_labels.ANNOTATIONS)
    units.loc[:1, "status"] = "named"
    assert read_first.sentences({"concepts": units}) == [
        "Annotations of 900 source images name 2 of 8 units: better than chance, and one concept alone "
        "in a set calibrated on halves; "
        "3 more are selective."
    ]


def test_read_first_says_whether_masks_or_boxes_name_units():
    table = masks(("named", "red", 1), ("not selective", "blue", 3))
    said = "name 1 of 4 units: better than chance, and one concept alone in a set calibrated on halves;"
    for column, what in (("masks", "Masks"), ("boxes, so coarse", "Boxes")):
        (told,) = read_first.sentences({"netdissect": table.assign(masks=column)})
        assert told == f"{what} of 240 source images {said} 0 more are selective."
    (told,) = read_first.sentences({"netdissect": table[:1]})
    assert told.startswith("Masks of 240 source images name 1 of 1 unit:")
    control = pd.concat([table, table.assign(layer="other")]).assign(shuffled_units=64, shuffled_named=3)
    (told,) = read_first.sentences({"netdissect": control})
    assert told.endswith(
        " With shuffled weights they name 6 of 128 units of the same layers: a name does not by itself show that "
        "something was learned."
    )
    (told,) = read_first.sentences({"netdissect": control.assign(shuffled_named=0)})
    assert told.endswith(" With shuffled weights they name none of 128 units of the same layers.")


def test_read_first_says_what_is_named_selective_and_stable_and_what_to_do():
    few = {"concepts": SELECTIVE.assign(source_images=34)}
    said = read_first.sentences(few)
    assert said == [
        "30 of 80 active units (38 %) match some concept of the list better than chance (q ≤ 0.05). "
        "That makes them selective; it does not make the word right: none is named, none has a theme of at most twelve "
        "meanings.",
        "Resampling the source images keeps the word of the median active unit in 25 % of draws.",
        "34 source images are few to name units with an encoder; even 1,000 may name none.",
    ]


@pytest.mark.parametrize(("selective", "kind"), [(19, "active"), (20, "selective")])
def test_stability_is_that_of_selective_units_where_there_are_twenty(selective, kind):
    units = labels(("m", "x", "dog", 0.01, selective), ("m", "x", "cat", 0.9, 30)).assign(first_half="a")
    told = read_first.sentences({"concepts": units.assign(second_half="a", source_images=900)})[1]
    assert f"100 % of {selective + 30 * (kind == 'active')} {kind} units" in told.replace("\u00a0", " ")


def test_themes_count_among_the_units_that_masks_could_name():
    table = masks(("named", "red", 1), ("theme", "red", 2), ("not selective", "blue", 3))
    assert "name 1 of 6 units: " in (told := read_first.sentences({"netdissect": table})[0])
    assert told.endswith("2 more are selective.")


def test_bars_show_concepts_of_two_units_and_count_the_rest():
    (bars,) = verdicts(frequent=frequent(dog=20, cat=2, cow=1, owl=1))[1][0]["bars"]
    assert [(row["label"], row["n"]) for row in bars["rows"]] == [
        ("dog", 20),
        ("cat", 2),
        ("2 other concepts", "1 each"),
    ]
    assert bars["title"] == "m, by the encoder (24)" and bars["rows"][1]["share"] == 0.1


def test_bars_of_masks_take_the_place_of_the_encoders_a_network_each():
    table = pd.concat(
        [masks(("named", "dotted", 30), ("named", "blue", 1)).assign(model="z"), masks(("named", "red", 2))]
    )
    _, made = verdicts(netdissect=table)
    assert [(bars["title"], [(row["label"], row["n"]) for row in bars["rows"]]) for bars in made[0]["bars"]] == [
        ("z, named by masks (31)", [("dotted", 30), ("1 other concept", "1 each")]),
        ("m, named by masks (2)", [("red", 2)]),
    ]
    addresses = [row["address"] for row in made[0]["bars"][0]["rows"]]
    assert addresses == ["search=%22dotted%22&model=z&status=named+%28by+masks%29", ""]
    assert made[0]["link"] == ("#network-dissection", "Units by layer")


def test_layers_are_split_by_status():
    table = masks(("named", "dotted", 3), ("selective", "red", 1))
    tiles = verdicts(netdissect=table)[1][1], verdicts()[1][1]
    ((by_masks,), (by_encoder,)) = (tile["stacks"] for tile in tiles)
    assert [tile["link"][0] for tile in tiles] == ["#network-dissection", "#networks-compared"]
    (row,) = by_masks["rows"]
    assert [(part["name"], part["n"], part["share"]) for part in row["parts"]] == [
        ("named", 3, 0.75),
        ("selective", 1, 0.25),
    ]
    (row,) = by_encoder["rows"]
    assert [(part["name"], part["n"]) for part in row["parts"]] == [("selective", 30), ("not selective", 50)]


def test_the_networks_of_a_tile_stay_in_the_order_of_the_run():
    tables = {"agreement": TABLES["agreement"], "complexity": TABLES["complexity"]}
    both = {name: pd.concat([table.assign(model="z"), table]) for name, table in tables.items()}
    _, made = verdicts(**both)
    assert [each["title"] for each in made[4]["matrix"]] == [each["title"] for each in made[5]["dots"]] == ["z", "m"]
    assert made[4]["lines"] == [
        "Mean IoU of maps cut to 20 % of the image, n = 10; maps of different images 0.20 to 0.20, unrelated "
        "pixels 0.11."
    ]


def test_correlations_are_drawn_as_shares_of_the_width():
    rows = pd.concat([correlations(0.4), correlations(0.3, 0.5).assign(measure="entropy", low=np.nan, high=np.nan)])
    _, made = verdicts(complexity=rows.reset_index(drop=True))
    ((dots,),) = [made[5]["dots"]]
    first, second = dots["rows"]
    assert first == {"label": "edge density", "n": "-0.70"} | {
        key: pytest.approx(value) for key, value in {"at": 0.15, "low": 0.05, "width": 0.35}.items()
    }
    assert (second["label"], second["at"], second["low"], second["width"]) == ("gray-level entropy", 0.75, 0.75, 0)
    assert made[5]["lines"] == [
        "Largest rank correlation: edge density -0.70 (-0.90 to -0.20), m, p = 0.4, adjusted for 2 tests."
    ]


def test_only_units_that_both_halves_give_a_word_are_asked_for_the_same():
    words = ["dog"] * 15 + ["cat"] * 6 + [""] * 4
    units = labels(("m", "x", "dog", 0.01, 25)).assign(first_half="dog", second_half=words)
    assert read_first.sentences({"concepts": units})[1].startswith(
        "Two halves of the source images give the same word to 71 % of 21 selective units; resampling keeps the word of"
    )
    assert len(read_first.sentences({"concepts": units[:1]})) == 3


def test_facts_of_the_run_and_its_failed_jobs():
    images = pd.DataFrame({"set": ["probe", "explain"], "images": [1020, 10], "source_images": [34, 10]})
    facts = read_first.run_facts({"concepts": SELECTIVE, "images": images}, failed=1)
    assert facts == {
        "facts": ["82 units in 1 layer", "1,020 probe images of 34 sources", "10 explained images", "encoder: CLIP"],
        "failed": "1 job failed",
    }
    assert read_first.run_facts({}, failed=0) == {"facts": [], "failed": ""}


@pytest.mark.parametrize(
    ("models", "title"),
    [
        (["a"], "What does a respond to, and what does it look at?"),
        (["a", "b"], "What do a and b respond to, and what do they look at?"),
        (list("abcd"), "What do 4 networks respond to, and what do they look at?"),
        ([], "Unitlens: a run of which nothing is done"),
    ],
)
def test_title(models, title):
    assert first_screen.title(models) == title


def checked(n_samples=1000, **tables):
    return [(check["ok"], check["text"]) for check in first_screen.checks(tables, n_samples=n_samples)]


def randomization(low):
    rows = [
        ("m", "gradcam-x", "randomized network", 9, 9, 0.3, low),
        ("m", "gradcam-x", "another source image", 0, 9, 0.2, 0),
    ]
    columns = ["model", "explainer", "comparison", "randomized", "layers", "mean", "low"]
    return pd.DataFrame(rows, columns=columns).assign(measure="equal_area_iou", chance=0.11)


def test_checks_are_green_only_where_nothing_speaks_against_them():
    verification = pd.DataFrame({"passed": [True, True, np.nan]})
    stability = pd.DataFrame({"model": ["m", "k"], "measure": "top_jaccard", "n_samples": 1000, "mean": [0.9, 0.7]})
    faith = {"measure": "deletion", "explainer": ["lime", "random"], "better": "lower", "p_adjusted": 0.01}
    faith = pd.DataFrame(faith | {"over_random": -0.2})
    assert checked(verification=verification) == [
        (True, "Explainers beside their reference packages: 2 of 2 comparisons within tolerance.")
    ]
    assert not checked(verification=pd.DataFrame({"passed": [True, False]}))[0][0]
    assert checked(randomization=randomization(0.15))[0][0] and not checked(randomization=randomization(0.25))[0][0]
    assert "maps of Grad-CAM (m) stay more alike than those of" in checked(randomization=randomization(0.25))[0][1]
    assert not checked(randomization=randomization(np.nan))[0][0]
    assert checked(stability=stability) == [
        (False, "LIME drawn again: the top superpixels settle for m, do not settle for k at 1,000 samples.")
    ]
    assert checked(stability=stability.head(1))[0][0]
    ok, said = checked("auto", stability=stability.assign(n_samples=[np.nan, np.nan]))[0]
    assert not ok and said.endswith("settle for m, do not settle for k at the samples that each map took.")
    assert checked(faithfulness=faith)[0] == (
        True,
        "Control maps: explainers beat random maps in 1 of 1 comparison of deletion, insertion and ROAD.",
    )
    assert not checked(faithfulness=faith.assign(over_random=0.2))[0][0]
    assert not checked(faithfulness=faith.assign(over_random=0.0, better="higher"))[0][0]
    assert checked(faithfulness=faith.assign(over_random=0.2, better="higher"))[0][0]
    order = pd.concat([stability, stability.head(1).assign(model="b")])
    assert "settle for m and b," in checked(stability=order)[0][1], "in the order of the run"


def unit_maps(rows):
    ids = np.array([[f"i{row}" for row in own] for own in rows], dtype=object)
    arrays = {"row": np.array(rows), "image_id": ids, "maps": np.full((len(rows), len(rows[0]), 4, 4), 255, np.uint8)}
    return arrays, {"model": "m", "layer": "x", "geometry": "square"}


def test_best_units_are_selective_first_and_differ():
    units = labels(
        ("m", "x", "dog", 0.04, 2), ("m", "x", "cat", 0.01, 1), ("m", "x", "owl", 0.2, 1), ("k", "z", "a", 0, 1)
    )

    def images(rows):
        assert list(rows) == sorted(rows)
        return np.stack([np.full((8, 8, 3), 10 * row, np.uint8) for row in rows])

    cards = samples.best_units(
        (None, [], {}), (units, [unit_maps([[3, 1], [0, 1], [2, 0], [1, -1]])], {"square": images})
    )
    assert [(card["title"], card["status"]) for card in cards] == [
        ("selective, no name", "selective"),
        ("selective, no name", "selective"),
        ("not selective", "not selective"),
    ]
    assert [card["key"] for card in cards] == ["m/x/2", "m/x/0", "m/x/3"]
    assert cards[1]["key"] == "m/x/0" and cards[1]["evidence"] == "q = 0.04, held-out r 0.30"
    assert [image["alt"] for image in cards[1]["images"]] == ["i3", "i1"] and cards[1]["images"][0]["region"]
    assert len(cards[2]["images"]) == 1, "a row of -1 is no image"

    dead = labels(("m", "x", "bat", 0.001, 1)).assign(status="dead")
    untested = labels(("m", "x", "cow", None, 1)).assign(status="not selective")
    more = pd.concat([units, dead, untested], ignore_index=True)
    read = (more, [unit_maps([[3, 1], [0, 1], [2, 0], [1, -1]])], {"square": images})
    assert samples.best_units((None, [], {}), read, count=9) == cards, "units that no test was made of are no evidence"

    named = masks(("named", "dotted", 1), ("named", "blue", 1), ("not selective", "red", 1))
    named = named.assign(unit=[0, 1, 2], q_value=[0.01, 0.01, 0.9], iou=[0.1, 0.2, 0.3])
    annotated = named, [unit_maps([[0, 1], [1, 2], [2, 3]])], {"square": images}
    cards = samples.best_units(annotated, (units, [unit_maps([[3, 1]] * 4)], {"square": images}))
    assert [(card["title"], card["status"], card["evidence"]) for card in cards] == [
        ("blue", "named", "q = 0.01, overlap with its masks 0.20"),
        ("dotted", "named", "q = 0.01, overlap with its masks 0.10"),
        ("selective, no name", "selective", "q = 0.01, held-out r 0.30"),
    ]
    assert samples.best_units((None, [], {}), (None, [], {})) == []
    without = samples.best_units(annotated, (units, [unit_maps([[3, 1]] * 4)], {}))
    assert [card["title"] for card in without] == ["blue", "dotted", "not selective"], "maps whose images are not there"


def test_the_example_is_the_surest_right_prediction():
    told = [("a", 0.9, False), ("b", 0.5, True), ("c", 0.7, True), ("d", 1.0, True)]
    predictions = pd.DataFrame(told, columns=["image_id", "probability", "correct"])
    predictions = predictions.assign(model="m", predicted_name=predictions["image_id"].str.upper())
    images = {"image_id": np.array(["a", "b", "c"], dtype=object), "images": np.zeros((3, 8, 8, 3), np.uint8)}
    maps = [({"saliency": np.ones((3, 8, 8))}, {"model": "m", "explainer": "gradcam-x"})]
    found = samples.example(maps, [(images, {})], predictions)
    assert (found["image_id"], found["predicted"], found["probability"]) == ("c", "C", 0.7)
    assert [image["title"] for image in found["images"]] == ["the image", "Grad-CAM"]
    assert all(re.match("data:image/jpeg;base64,", image["uri"]) for image in found["images"])
    wrong = samples.example(maps, [(images, {})], predictions.assign(correct=False))
    assert wrong["image_id"] == "a" and samples.example([], [(images, {})], predictions) is None
    assert samples.example(maps, [], predictions) is None and samples.example(maps, [(images, {})], None) is None
    assert samples.example(maps, [(images, {})], predictions.assign(probability=np.nan)) is None
    others = pd.concat([predictions.assign(model="k", probability=1.0), predictions.assign(predicted_name="")])
    nameless = samples.example(maps, [(images, {})], others)
    assert (nameless["image_id"], nameless["predicted"], nameless["probability"]) == ("c", "c", 0.7)
    assert [image["alt"] for image in nameless["images"]] == ["c: the image", "c: Grad-CAM"]


def picture(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_the_example_shows_the_map_of_its_image_and_the_borders_of_its_superpixels():
    images = {"image_id": np.array(["a", "b"], dtype=object), "images": np.full((2, 8, 16, 3), 100, np.uint8)}
    saliency = np.zeros((2, 8, 16))
    saliency[0], saliency[1, :, 8:] = 5, 0.5  # the second, of its own maximum, on the right half
    lime = {"saliency": saliency * 0, "segments": np.tile(np.arange(16) // 8, (2, 8, 1))}
    told = [
        (arrays, {"model": "m", "explainer": name}) for arrays, name in [({"saliency": saliency}, "x"), (lime, "lime")]
    ]
    predictions = pd.DataFrame({"model": "m", "image_id": ["b"], "probability": 0.5, "correct": True})
    found = samples.example(told, [(images, {})], predictions.assign(predicted_name="B"))
    image, heat, parts = (np.asarray(picture(each["uri"])).astype(int) for each in found["images"])
    assert image.shape == heat.shape == parts.shape == (120, 240, 3), "240 pixels wide, in its own proportions"
    assert abs(image - 100).max() <= 2
    assert np.ptp(heat[60, 40]) <= 3 and np.ptp(heat[60, 200]) > 100, "colored where it is salient, the most of its own"
    assert parts[60, 120].min() > parts[60, 40].max() + 50


def test_images_keep_their_proportions_and_have_a_pixel_at_least():
    noise = np.random.default_rng(0).integers(0, 256, (40, 80, 3), dtype=np.uint8)
    small = picture(samples._encoded(noise, 20))
    assert small.size == (20, 10) and picture(samples._encoded(noise[:1], 20)).size == (20, 1)
    known = io.BytesIO()
    Image.fromarray(noise).save(known, "jpeg", quality=80)
    assert small.quantization == Image.open(known).quantization


def test_units_are_read_with_their_maps_and_the_images_of_each_geometry(tmp_path):
    ids = np.array(["a", "b"], dtype=str)
    for value, geometry in enumerate(("square", "tall")):
        pixels = np.full((2, 4, 4, 3), value, np.uint8)
        write_arrays(tmp_path / geometry / "0.h5", {"images": pixels, "image_id": ids}, {"geometry": geometry})
    write_arrays(tmp_path / "maps.h5", {"row": np.array([[1, 0]])}, {"model": "m", "layer": "x", "geometry": "tall"})
    table, maps, images = samples.read_units(
        "table", [tmp_path / "maps.h5"], [tmp_path / "square/0.h5", tmp_path / "tall/0.h5"]
    )
    ((arrays, facts),) = maps
    assert table == "table" and arrays["row"].tolist() == [[1, 0]] and facts["layer"] == "x"
    assert [int(images[name](np.array([1])).max()) for name in ("square", "tall")] == [0, 1]
