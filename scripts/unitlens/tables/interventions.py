"""Which units are switched off, on which images, and what the network loses: a check of accounts by effects.

Units are chosen on half of the source images of a class and switched off in the other half, beside the most active
units, those of the largest weights and random units of equal activity. A name is tested as a whole: do the classes to
which its units contribute most lose more without them than without as many others that are as active?
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from unitlens.explainers.items import image_seed
from unitlens.tables import accounts
from unitlens.tables.resampling import (
    FEWEST_GROUPS,
    benjamini_hochberg,
    mean_with_interval,
    paired_permutation_test,
)

CHOSEN = {"contribution": "contributions", "activity": "activity", "weight": "gradient"}  # by the mean of what
KINDS = (*CHOSEN, "random")  # how the units that are switched off for a class are chosen
MEASURES = ("fall", "share", "accuracy")
COLUMNS = ["image_id", "source_image", "label", "target", "warning"]  # what `halves` needs of a file of accounts
_DRAWS, NAME_DRAWS = 5, 99  # random sets beside those of a class; beside those of a name, which give its p-value
_CLASSES_OF_NAME = 3
BLOCK = 1024  # accounts that are read at once
_NEAR = 10  # units nearest in activity, of which one is drawn
_SETS = {"kind": object, "k": np.int64, "class": np.int64, "name": object, "activity": np.float64}
_OF_LAYER = ["model", "layer"]


def choose(
    columns: Mapping[str, np.ndarray],
    blocks: Iterable[Mapping[str, np.ndarray]],
    facts: Mapping[str, object],
    names: pd.DataFrame,
    *,
    units: Sequence[int],
    images: int,
    seed: int,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict[str, object]]:
    """Choose sets of units and trials of one model, as `plan` gives them, from its accounts.

    `columns` and `blocks` are as of `halves` and `class_means`, `facts` the attributes of the accounts, `names` of
    `accounts.unit_names`; `units` are the sizes of `plan`. The third are ``model, layer``, ``classes``, how many units
    were chosen for, and ``most``, the source images with a label and an account of the class that has most.
    """
    rows = halves(columns, images=images, seed=seed)
    classes, means = class_means(blocks, rows[~rows["test"]], len(columns["image_id"]))
    own = accounts.names_of_layer(names, facts, means["activity"].shape[1] if means else 0)
    most = _labeled(columns).groupby("class")["source_image"].nunique().max()
    about = {name: facts[name] for name in _OF_LAYER}
    about |= {"classes": len(classes), "most": 0 if pd.isna(most) else int(most)}
    return *plan(rows, classes, means, own, sizes=units, seed=seed), about


def halves(columns: Mapping[str, np.ndarray], *, images: int, seed: int) -> pd.DataFrame:
    """Divide the labeled images of each class, whole source images together, at random.

    `columns` are `COLUMNS` of accounts, `images` the most source images of a class. Gives ``row`` (of the accounts),
    ``image_id, source_image, class`` and ``test``, False for the half that units are chosen on, of which only images
    whose account is of the class are kept. Only classes are kept that have five source images in each half.
    """
    table, parts = _labeled(columns), []
    for number, own in table.groupby("class"):
        order = sorted(own["source_image"].unique(), key=lambda name: image_seed(seed, f"half/{number}/{name}"))[
            :images
        ]
        place = own["source_image"].map({name: place for place, name in enumerate(order)})
        own = own[place.notna()].assign(test=place >= len(order) / 2)
        own = own[own["test"] | (own["target"] == number)]
        sizes = own.groupby("test")["source_image"].nunique()
        if len(sizes) == 2 and sizes.min() >= FEWEST_GROUPS:
            parts.append(own)
    found = pd.concat(parts, ignore_index=True) if parts else table.head(0).assign(test=np.zeros(0, bool))
    return found[["row", "image_id", "source_image", "class", "test"]]


def _labeled(columns: Mapping[str, np.ndarray]) -> pd.DataFrame:
    table = pd.DataFrame({name: columns[name] for name in COLUMNS}).rename(columns={"label": "class"})
    return table.assign(row=range(len(table)))[(table["class"] >= 0) & (table["warning"] == "")]


def class_means(
    blocks: Iterable[Mapping[str, np.ndarray]], rows: pd.DataFrame, count: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Average contributions, activity and gradients over images of each class, block by block.

    `blocks` hold these arrays of the `count` accounts, one below the other; `rows` has ``row, class``. Gives the
    classes (classes,) and the means (classes, units) by the name of the array.
    """
    classes, place = np.unique(rows["class"], return_inverse=True)
    group, start, sums = np.full(count, -1), 0, {}
    group[rows["row"]] = place
    for block in blocks:
        own = group[start : start + len(block["contributions"])]
        start += len(own)
        for name in CHOSEN.values():
            total = sums.setdefault(name, np.zeros((len(classes), block[name].shape[1])))
            for number in np.unique(own[own >= 0]):
                total[number] += block[name][own == number].sum(0, dtype=np.float64)
    size = np.bincount(place, minlength=len(classes))[:, None]
    return classes, {name: total / size for name, total in sums.items()}


def plan(
    rows: pd.DataFrame,
    classes: np.ndarray,
    means: Mapping[str, np.ndarray],
    names: pd.DataFrame,
    *,
    sizes: Sequence[int],
    seed: int,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Choose sets of units, and the images on which each is switched off.

    Parameters
    ----------
    rows, classes, means
        Of `halves` and of `class_means` of the half that units are chosen on.
    names : pandas.DataFrame
        What the units of the layer are called, of `accounts.names_of_layer`.
    sizes : sequence of int
        How many units are switched off for a class; what is more than half of the units is left out.
    seed : int
        Of random units, and of the class whose units each image of another class is tried with.

    Returns
    -------
    sets : dict of numpy.ndarray
        ``units`` (sets, units) bool and by row ``kind``, of `KINDS`, ``name`` or ``beside name``, ``k``, ``class``, -1
        for names, ``name``, and ``activity``, the sum over the units.
    trials : dict of numpy.ndarray
        By row ``image_id, class``, that of the image, and ``set``.
    """
    units = means["contributions"].shape[1] if means else 0
    test, sets, tried_by_set = rows[rows["test"]], [], []
    visited = _visited(test, classes, seed)

    def add(tried: pd.Series, activity: np.ndarray, chosen: Sequence[np.ndarray], **about: object) -> None:
        for each in chosen:
            tried_by_set.append(np.flatnonzero(tried))
            sets.append(about | {"units": np.isin(np.arange(units), each), "activity": activity[each].sum()})

    for index, number in enumerate(classes.tolist()):
        own, activity = {name: each[index] for name, each in means.items()}, means["activity"][index]
        rng = np.random.default_rng(image_seed(seed, f"random units/class/{number}"))
        tried = (test["class"] == number) | (visited == number)
        for k in (k for k in sizes if 2 * k <= units):
            best = {kind: np.argsort(-own[name], kind="stable")[:k] for kind, name in CHOSEN.items()}
            best |= {"random": _as_active(best["contribution"], activity, rng, _DRAWS)}
            for kind, chosen in best.items():
                several = chosen if kind == "random" else [chosen]
                add(tried, activity, several, kind=kind, k=k, name="", **{"class": number})
    for name, own in names[names["status"] == "named"].groupby("name"):
        chosen = np.flatnonzero(names.index.isin(own.index))
        need = means["contributions"][:, chosen].sum(1) if len(classes) else np.zeros(0)
        needing = np.argsort(-need, kind="stable")[:_CLASSES_OF_NAME]
        needing = needing[need[needing] > 0]
        if len(needing) and 2 * len(chosen) <= units:
            activity = means["activity"][needing].mean(0)
            rng = np.random.default_rng(image_seed(seed, f"random units/name/{name}"))
            tried = test["class"].isin(classes[needing])
            about = {"k": len(chosen), "class": -1, "name": name}
            add(tried, activity, [chosen], kind="name", **about)
            add(tried, activity, _as_active(chosen, activity, rng, NAME_DRAWS), kind="beside name", **about)
    arrays = {name: np.array([each[name] for each in sets], dtype=kind) for name, kind in _SETS.items()}
    arrays["units"] = np.array([each["units"] for each in sets], dtype=bool).reshape(len(sets), units)
    place = np.concatenate([np.zeros(0, np.int64), *tried_by_set])
    trials = {name: test[name].to_numpy()[place] for name in ("image_id", "class")}
    return arrays, trials | {"set": np.repeat(np.arange(len(sets)), list(map(len, tried_by_set)))}


def _visited(test: pd.DataFrame, classes: np.ndarray, seed: int) -> np.ndarray:
    """Draw for each test image another class (n,), whose units it is tried without, too; its own if there is none."""
    if len(classes) < 2:
        return test["class"].to_numpy()
    draw = np.array([image_seed(seed, f"other class/{name}") % (len(classes) - 1) for name in test["image_id"]])
    own = np.searchsorted(classes, test["class"])
    return classes[draw + (draw >= own)]


def _as_active(chosen: np.ndarray, activity: np.ndarray, rng: np.random.Generator, draws: int) -> list[np.ndarray]:
    """Draw other units than those chosen (k,), each among the nearest in the rank of their activity (units,)."""
    rank = activity.argsort(kind="stable").argsort(kind="stable")
    drawn = []
    for _ in range(draws):
        free = np.setdiff1d(np.arange(len(activity)), chosen)
        for unit in rng.permutation(chosen):
            near = free[np.argsort(np.abs(rank[free] - rank[unit]), kind="stable")[:_NEAR]]
            free = free[free != rng.choice(near)]
        drawn.append(np.setdiff1d(np.arange(len(activity)), np.union1d(free, chosen)))
    return drawn


# ---- what came of it


def outcomes(
    sets: Mapping[str, np.ndarray], trials: Mapping[str, np.ndarray], facts: Mapping[str, object]
) -> pd.DataFrame:
    """Put what trials gave, of `interventions.run_trials`, beside the sets: a row a trial; for both see `plan`."""
    table = pd.DataFrame({name: trials[name] for name in ("image_id", "source_image", "class", "set")})
    table = table.rename(columns={"class": "own"})
    for name in _SETS:
        table[name] = np.asarray(sets[name])[table["set"]] if len(table) else np.zeros(0, _SETS[name])
    table = table.assign(score=trials["score"], score_off=trials["score_off"])
    for end in ("", "_off"):
        table[f"accuracy{end}"] = (trials[f"predicted{end}"] == trials["class"]).astype(float)
    of = np.where(table["own"] == table["class"], "the class", "others")
    table = table.assign(**{name: facts[name] for name in _OF_LAYER}, fall=table["score"] - table["score_off"], of=of)
    return table.rename(columns={"set": "draw"}).sort_values("draw", kind="stable")  # classes in their order


def by_class(table: pd.DataFrame) -> pd.DataFrame:
    """Average `outcomes` over the images of each class, and of other classes; random units over their draws, too.

    The columns stand in docs/outputs.md.
    """
    keys = [*_OF_LAYER, "class", "chosen", "k", "of"]
    own = table[table["class"] >= 0].rename(columns={"kind": "chosen"})
    counts = {"n": ("image_id", "nunique"), "source_images": ("source_image", "nunique")}
    means = {name: (name, "mean") for name in ("activity", "score", "score_off", "fall", "accuracy", "accuracy_off")}
    return own.groupby(keys, sort=False).agg(**counts, **means).reset_index()


def summarize(classes: pd.DataFrame) -> pd.DataFrame:
    """Average what classes lose, of `by_class`, with Student's t over classes.

    ``fall`` is of the logit, ``share`` that fall in shares of the logit of the class, of classes in which that is above
    0, ``accuracy`` the fall of the accuracy.
    """
    rows = []
    keys = [*_OF_LAYER, "chosen", "k", "of"]
    for key, group in classes.groupby(keys, sort=False):
        for measure in MEASURES:
            values = _lost(group, measure).dropna()
            interval = mean_with_interval(values)
            before = group["score" if measure != "accuracy" else "accuracy"].mean()
            rows.append([*key, measure, interval.n, len(group) - interval.n, before, *interval[2:]])
    return pd.DataFrame(rows, columns=[*keys, "measure", "n", "undefined", "before", "mean", "low", "high"])


def compare(classes: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Test whether units of the largest contribution cost a class more than other units, and than other classes.

    The p-values are of the paired permutation test by class, adjusted (Benjamini-Hochberg) for all of a layer. The
    share of the logit is not tested beside its fall.
    """
    tables, columns = [], ["k", "measure", "comparison", "n", "difference", "low", "high", "p_value"]
    for key, group in classes.groupby(_OF_LAYER, sort=False):
        rows = []
        for k, own in group.groupby("k", sort=False):
            lost = {
                name: own[(own["chosen"] == kind) & (own["of"] == of)].set_index("class") for name, kind, of in _SIDES
            }
            for measure in ("fall", "accuracy"):
                first = _lost(lost["contribution"], measure)
                for other in (name for name, *_ in _SIDES[1:]):
                    two = pd.concat([first, _lost(lost[other], measure)], axis=1, keys=["a", "b"]).dropna()
                    rows.append([k, measure, other, *_difference(two["a"] - two["b"], seed)])
        tests = pd.DataFrame(rows, columns=columns).assign(**dict(zip(_OF_LAYER, key, strict=True)))
        tables.append(tests.assign(p_adjusted=benjamini_hochberg(tests["p_value"])))
    columns = [*_OF_LAYER, *columns, "p_adjusted"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


_SIDES = [(kind, kind, "the class") for kind in KINDS] + [("other classes", "contribution", "others")]


def _difference(values: pd.Series, seed: int) -> list[float]:
    if values.empty:
        return [0, *[np.nan] * 4]
    n, _, *interval = mean_with_interval(values)
    return [n, *interval, paired_permutation_test(values, np.zeros(n), seed=seed).p_value]


def _lost(rows: pd.DataFrame, measure: str) -> pd.Series:
    if measure == "share":
        return rows["fall"] / rows["score"].where(rows["score"] > 0)
    return rows["fall"] if measure == "fall" else rows["accuracy"] - rows["accuracy_off"]


def by_name(table: pd.DataFrame) -> pd.DataFrame:
    """Test each name: whether switching off its units costs the classes that need it more than others as active.

    The p-value is the rank of the fall among those of random sets of as many units of equal activity on the same
    images, and adjusted (Benjamini-Hochberg) for the names of a layer. The columns stand in docs/outputs.md.
    """
    rows = []
    for key, group in table[table["name"] != ""].groupby([*_OF_LAYER, "name"], sort=False):
        own, beside = (group[group["kind"] == kind] for kind in ("name", "beside name"))
        random, fall = beside.groupby("draw")["fall"].mean(), own["fall"].mean()
        counts = [own["k"].iloc[0], own["own"].nunique(), len(own), own["source_image"].nunique()]
        p_value = (1 + (random >= fall).sum()) / (1 + len(random))
        activity = [own["activity"].mean(), beside["activity"].mean()]
        rows.append([*key, *counts, *activity, own["score"].mean(), fall, random.mean(), random.max(), p_value])
    columns = [*_OF_LAYER, "name", "units", "classes", "n", "source_images", "activity", "activity_random"]
    tests = pd.DataFrame(rows, columns=[*columns, "score", "fall", "fall_random", "highest_random", "p_value"])
    adjusted = tests.groupby(_OF_LAYER, sort=False)["p_value"].transform(benjamini_hochberg)
    return tests.assign(p_adjusted=adjusted.astype(float))
