"""The table of linear labels: sums of concepts, and how well they predict units on held-out source images."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from unitlens.tables import resampling

ENOUGH_ROWS = 20_000  # images in all repeats: of more, a half leaves little to chance
PLACES = (1, 2, 3)  # of concepts in a sum, `units.linear_labels.MOST_CONCEPTS`


def linear_table(
    activations: Mapping[str, np.ndarray],
    images: Mapping[str, np.ndarray],
    concepts: Mapping[str, np.ndarray],
    labels: pd.DataFrame,
    *,
    seed: int,
) -> pd.DataFrame:
    """Tabulate the linear label of every unit of a layer, see docs/evidence.md.

    `activations`, `images`, `concepts` and `seed` are as of `labeling.label_table`, `labels` is what that gave of
    them. No number in the table but the weights is of the images that were fitted.
    """
    import torch

    from unitlens.networks.layer_outputs import silenced
    from unitlens.tables.labeling import score_axes
    from unitlens.units import dissect, linear_labels
    from unitlens.units.permutation import group_rows, splits

    values = silenced(torch.as_tensor(activations["activations"]))
    features = dissect.normalized(images["features"], "image_features")
    texts = dissect.normalized(concepts["features"], "text_features")
    axes = score_axes(texts, labels["encoder"].iloc[0])
    source_images = group_rows(images["source_image"])
    rng = np.random.default_rng([seed, 3])
    found = linear_labels.fit(values, features, axes, source_images, rng)
    repeats = splits(source_images, seed)[: max(1, ENOUGH_ROWS // len(features))]
    held_out = linear_labels.held_out(values, features, axes, source_images, repeats, rng)
    words = np.append(concepts["word"], "")
    table = pd.DataFrame({"unit": labels["unit"], "status": labels["status"]})
    for place, concept, weight in zip(PLACES, found.concepts.T.cpu(), found.weights.T.cpu(), strict=True):
        table[f"concept_{place}"] = words[concept.numpy()]
        table[f"weight_{place}"] = np.where(concept >= 0, weight, np.nan)
    return table.assign(
        linear_correlation=held_out.linear,
        candidate=labels["candidate"],
        label_correlation=labels["held_out_correlation"],
        ridge_correlation=held_out.ridge,
        again=held_out.again,
        label_again=np.where(labels["first_half"] == "", np.nan, labels["first_half"] == labels["second_half"]),
        repeats=held_out.repeats,
        images=len(features),
        source_images=len(source_images.size),
    )


def sums(table: pd.DataFrame) -> pd.Series:
    """Write each linear label as ``0.41 owl + 0.22 feather``, empty where there is none."""
    terms = pd.DataFrame(
        {
            place: table[f"weight_{place}"].map("{:.2f} ".format, na_action="ignore") + table[f"concept_{place}"]
            for place in PLACES
        }
    )
    return terms.apply(lambda row: " + ".join(row.dropna()), axis=1) if len(terms) else pd.Series(dtype=object)


def compare(table: pd.DataFrame) -> pd.DataFrame:
    """Compare the held-out correlations of linear and single labels, layer by layer, over units that have both.

    A row for each model and layer: ``units``, ``concepts`` in a linear label, the means ``linear``, ``label``,
    ``ridge`` and their intervals, ``gain`` of linear over single labels with its interval, and the shares of a half's
    words that the other half gives too, ``again`` and ``label_again``. Units are taken as independent.
    """
    found = []
    for (model, layer), group in table.groupby(["model", "layer"], sort=False):
        own = group.dropna(subset=["linear_correlation", "label_correlation", "ridge_correlation"])
        row = {"model": model, "layer": layer, "units": len(own)}
        row["concepts"] = own[[f"weight_{place}" for place in PLACES]].notna().sum(axis=1).mean()
        gain = own["linear_correlation"] - own["label_correlation"]
        means = {name: own[f"{name}_correlation"] for name in ("linear", "label", "ridge")} | {"gain": gain}
        for name, values in means.items():
            mean = resampling.mean_with_interval(values)
            row |= {name: mean.mean, f"{name}_low": mean.low, f"{name}_high": mean.high}
        found.append(row | {name: own[name].mean() for name in ("again", "label_again")})
    return pd.DataFrame(found)
