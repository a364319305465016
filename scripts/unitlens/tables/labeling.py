"""Label the units of a layer, and tabulate the labels with their evidence."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from unitlens.networks.layer_outputs import check_finite, silenced
from unitlens.storage.arrays import read_arrays
from unitlens.storage.shards import read_blocks, read_column
from unitlens.tables import resampling
from unitlens.tables.unit_labels import ANNOTATIONS, COVERAGE, FEWEST_CALIBRATED, LARGEST_THEME, SELECTIVE, spoken
from unitlens.units import dissect, evidence, exemplars, held_out, label_sets
from unitlens.units.permutation import SPLITS, Probe, group_rows, log_normalizers, p_values, splits, testable

_ANNOTATED = [f"held_out_{name}{end}" for name in ("auc", "difference") for end in ("", "_low", "_high")]
_SET_SHOWN = 5  # groups of a set that are named
_TOP_IMAGES = 5  # how many of a unit's top images the table names
_TOP_CONCEPTS = 5  # and how many of its best concepts
_BLOCK = 4096  # images whose annotations are compared with all concepts at once


def check_origin(
    activations: Mapping[str, np.ndarray],
    images: Mapping[str, np.ndarray],
    concepts: Mapping[str, np.ndarray],
    encoders: tuple[str, str],
) -> None:
    """Check that activations, image features and concepts, as `label_table` takes them, belong together.

    ValueError if the encoders differ, the images of the activations and of the features differ, no unit is finite on
    every image (the first unit and image are named), or a concept is empty or there twice.
    """
    if encoders[0] != encoders[1]:
        raise ValueError(
            f"images were embedded with {encoders[0]!r}, concepts with {encoders[1]!r}; embed both with one encoder"
        )
    if list(activations["image_id"]) != list(images["image_id"]):
        raise ValueError("activations and image features are not of the same images in the same order; run both again")
    check_finite(torch.as_tensor(activations["activations"]))
    words = pd.Series(concepts["word"])
    if (unusable := words[words.str.strip().eq("") | words.duplicated()]).size:
        raise ValueError(f"concept {unusable.iloc[0]!r} (row {unusable.index[0]}) is empty or there twice; embed again")


def score_axes(texts: Tensor, encoder: str) -> Tensor:
    """Give the directions (concepts, d) whose products with features of images are the concepts' held-out scores.

    They are cosines less their mean over all concepts, for what all words share says nothing of one; annotations say
    what an image shows as they are.
    """
    return texts if encoder == ANNOTATIONS else texts - texts.mean(0)


def tabulate(
    scores: Tensor,
    activations: Mapping[str, np.ndarray],
    concepts: Mapping[str, np.ndarray],
    *,
    similarity: str,
    encoder: str,
) -> pd.DataFrame:
    """Tabulate the best words that scores, shape (units, concepts), give; empty where the similarity has no answer.

    `activations` and `concepts` are those of `label_table`; `similarity` and `encoder` are names for the table. Units
    that are not silent have the status not selective: scores alone do not tell.
    """
    given = torch.as_tensor(activations["activations"])
    values = silenced(given)
    labels = dissect.Labels(*(part.cpu().numpy() for part in dissect.label(scores)))
    silent = exemplars.dead_units(values).numpy()
    status = np.full(values.shape[1], "not selective", dtype=object)
    status[silent] = np.where(values[0].numpy()[silent] == 0, "dead", "constant")
    status[~given.isfinite().all(0).numpy()] = "not finite"
    words, categories = (np.append(concepts[name], "") for name in ("word", "category"))  # -1, no label, is the last
    top = exemplars.top_images(values, min(_TOP_IMAGES, len(values))).numpy()
    top_ids = [" ".join(np.asarray(activations["image_id"])[row]) for row in top]
    digest = hashlib.sha256("\n".join(concepts["word"]).encode()).hexdigest()[:8]
    return pd.DataFrame(
        {
            "unit": np.arange(values.shape[1]),
            "status": status,
            "candidate": words[labels.concept],
            "category": categories[labels.concept],
            "score": labels.score,
            "second_concept": words[labels.second],
            "margin": labels.margin,
            "top_concepts": _best_words(scores, words),
            "top_images": np.where(silent, "", top_ids),
            "encoder": encoder,
            "similarity": similarity,
            "concept_list": f"{len(concepts['word'])} words {digest}",
        }
    )


def _best_words(scores: Tensor, words: np.ndarray) -> list[str]:
    """Join each unit's best concepts, best first; what is no candidate is left out."""
    found = []
    for part in exemplars.row_blocks(scores):
        part = part.nan_to_num(nan=-torch.inf, neginf=-torch.inf)
        columns = exemplars.top_columns(part, min(_TOP_CONCEPTS, part.shape[1]))
        finite = part.gather(1, columns).isfinite()
        found += ["; ".join(words[row[keep]]) for row, keep in zip(columns.numpy(), finite.numpy(), strict=True)]
    return found


class Labeled(NamedTuple):
    """A labeled layer."""

    table: pd.DataFrame  # see docs/evidence.md
    scores: Tensor  # (units, concepts) that the labels were chosen by
    groups: np.ndarray  # (concepts,) of near-duplicates


def label_table(
    activations: Mapping[str, np.ndarray],
    images: Mapping[str, np.ndarray],
    concepts: Mapping[str, np.ndarray],
    **options: object,
) -> pd.DataFrame:
    """Tabulate the labels of one layer with their evidence.

    `activations` holds ``activations`` (n, units) and ``image_id`` (n,). The rest, and the ValueErrors, are as of
    `label_layers`.
    """
    (found,) = label_layers([activations["activations"]], activations["image_id"], images, concepts, **options)
    return found.table


def label_layers(
    layers: Iterable[np.ndarray],
    image_id: Sequence[str],
    images: Mapping[str, np.ndarray],
    concepts: Mapping[str, np.ndarray],
    *,
    similarity: str,
    encoders: tuple[str, str],
    seed: int,
    top_k: str = "published",
    resamples: int = 200,
    null_draws: int = 10_000,
    alpha: float = 0.05,
    held_out_splits: int = SPLITS,
    annotated: Mapping[str, np.ndarray] | None = None,
) -> Iterator[Labeled]:
    """Label every unit of layers, (n, units) each, and tabulate the labels with their evidence, see docs/evidence.md.

    `soft_wpmi` and `wpmi` look at the top images only, so that resamples and draws cost little. Of another similarity
    every resample is a labeling of the layer, and as many draws as the layer has units are one. What is of images and
    concepts alone is computed once.

    The layers are of the images `image_id` (n,); `images` holds ``features`` (n, d), ``image_id`` of the same images in
    the same order, and ``source_image`` (n,), what each was cut from; `concepts` ``features`` (m, d), ``word`` and
    ``category`` (m,). `encoders` are those of images and concepts, which must be one. With a `top_k` of ``auto`` the
    layer's held-out scores choose how many top images `soft_wpmi` looks at. Of the source images there are so many
    bootstrap `resamples` and draws of the permutation null. Units are selective up to an adjusted p-value of `alpha`,
    where that is 1 of `SELECTIVE`. Held-out scores are means over so many splits. Where `resamples` or
    `held_out_splits` are 0 their columns are NaN. Words of an encoder are tested on `annotated` images, too, of
    `read_annotated`. Errors are as of `check_origin`, and a ValueError where `top_k` is ``auto`` with another
    similarity, or `annotated` is of other images.
    """
    if top_k == "auto" and similarity != "soft_wpmi":
        raise ValueError(f"`top_k` is 'auto', which `soft_wpmi` alone can have, and `similarity` is {similarity!r}")
    probe = log_norms = None
    for values in layers:
        activations = {"activations": values, "image_id": image_id}
        check_origin(activations, images, concepts, encoders)
        given = silenced(torch.as_tensor(values))
        if probe is None:
            _, features, texts, _ = dissect.checked_inputs(given, images["features"], concepts["features"])
            sources, groups = group_rows(images["source_image"]), evidence.near_duplicates(texts)
            probe = Probe(given, features, texts, sources, groups)
            if similarity in dissect.TERMS:
                log_norms = log_normalizers(features, texts, dissect.TERMS[similarity]().a)
        probe = probe._replace(activations=given)
        yield _label_layer(
            probe,
            log_norms,
            activations,
            concepts,
            similarity=similarity,
            encoder=encoders[0],
            seed=seed,
            top_k=top_k,
            resamples=resamples,
            null_draws=null_draws,
            alpha=alpha,
            held_out_splits=held_out_splits,
            annotated=annotated,
        )


def _label_layer(
    probe: Probe,
    log_norms: Tensor | None,
    activations: Mapping[str, np.ndarray],
    concepts: Mapping[str, np.ndarray],
    *,
    similarity: str,
    encoder: str,
    seed: int,
    top_k: str,
    resamples: int,
    null_draws: int,
    alpha: float,
    held_out_splits: int,
    annotated: Mapping[str, np.ndarray] | None,
) -> Labeled:
    rngs = [np.random.default_rng([seed, purpose]) for purpose in (0, 1)]
    halved = splits(probe.source_images, seed)[: max(1, held_out_splits)]
    axes, looked_at = score_axes(probe.texts, encoder), None
    if similarity in dissect.TERMS:
        choice = np.random.default_rng([seed, 6])
        chosen = {"top_k": evidence.choose_top_k(probe, axes, halved[0], choice)} if top_k == "auto" else {}
        terms = dissect.TERMS[similarity](**chosen)
        looked_at = len(terms.slope)
        collected = evidence.collect_from_top_images(probe, terms, log_norms, resamples, null_draws, halved, rngs)
    else:
        collected = evidence.collect_from_all_images(probe, similarity, resamples, null_draws, halved, rngs)
    scores, stability, observed, null, stratum, halves, short = collected
    judged = halved[:held_out_splits]
    labels = evidence.label_halves(probe, axes, judged, choice) if top_k == "auto" else halves[:held_out_splits]
    pieces = probe.activations, probe.images, axes, probe.source_images, judged, labels
    scored = held_out.score(*pieces, np.random.default_rng([seed, 4]))
    if encoder == ANNOTATIONS:
        shown = np.concatenate([(part @ probe.texts.T > 0).cpu().numpy() for part in probe.images.split(_BLOCK)])
        annotated = {"image_id": activations["image_id"], "shown": shown, "word": concepts["word"]}
    tested_by = _on_annotated(probe, activations["image_id"], annotated, concepts["word"], judged, labels)

    table = tabulate(scores, activations, concepts, similarity=similarity, encoder=encoder)
    tested, p = np.where(testable(probe.activations, looked_at), observed, np.nan), np.full(len(scores), np.nan)
    for number, draws in enumerate(null):
        own = stratum == number
        p[own] = p_values(tested[own], draws)
    words = np.asarray(concepts["word"], dtype=object)
    group_names = dict(zip(words, words[probe.groups], strict=True)) | {"": ""}
    bar = alpha if alpha < 1 else SELECTIVE
    table = table.assign(
        group=table.candidate.map(group_names),
        margin_group=evidence.margin_to_other_group(scores, probe.groups),
        kept=stability.kept,
        kept_group=stability.kept_group,
        score_low=stability.low,
        score_high=stability.high,
        statistic=observed,
        p_value=p,
        q_value=resampling.benjamini_hochberg(p),
        alpha=bar,
        p_floor=1 / (1 + np.array([*map(len, null)])[stratum]),
        first_half=np.append(words, "")[halves[0, 0]],
        second_half=np.append(words, "")[halves[0, 1]],
        **{f"held_out_{name}": values for name, values in zip(held_out.SCORES, scored.scores, strict=True)},
        held_out_images=scored.images,
        **tested_by,
        top_k=np.nan if looked_at is None else looked_at,
        images=len(probe.images),
        source_images=len(probe.source_images.size),
    )
    table["status"] = table.status.mask(table.q_value <= bar, "selective")
    table = with_sets(table, scores, short, probe.groups, words)
    table["concept"] = table.candidate.where(table.status == "named", "")
    columns = "unit status concept set_size set gap candidate category group score second_concept margin margin_group"
    columns += " kept kept_group score_low score_high statistic p_value q_value alpha p_floor first_half second_half"
    columns += "".join(f" held_out_{name}" for name in (*held_out.SCORES, "images"))
    columns += " " + " ".join(_ANNOTATED)
    columns += " top_concepts top_images images source_images encoder similarity top_k concept_list"
    return Labeled(table[columns.split()], scores, probe.groups)


def _on_annotated(
    probe: Probe,
    image_id: Sequence[str],
    annotated: Mapping[str, np.ndarray] | None,
    words: Sequence[str],
    halved: Sequence[Sequence[np.ndarray]],
    labels: np.ndarray,
) -> dict[str, np.ndarray]:
    """Give the columns of `_ANNOTATED`, each (units,): NaN without annotations, or where a unit's words are none."""
    means = np.full((2, 3, probe.activations.shape[1]), np.nan)
    if annotated is not None:
        if list(annotated["image_id"]) != list(image_id):
            raise ValueError("activations and annotations are not of the same images in the same order; run both again")
        place = {spoken(word).casefold(): row for row, word in enumerate(annotated["word"])}
        row_of = np.array([*(place.get(spoken(word).casefold(), -1) for word in words), -1])
        found = held_out.score_annotated(
            probe.activations, annotated["shown"], probe.source_images, halved, row_of[labels]
        )
        for own, (mean, error) in zip(means, found[:2], strict=True):
            own[:] = mean, *resampling.student_intervals(mean, error, found.source_images)
        means[0] = means[0].clip(0, 1)
    return dict(zip(_ANNOTATED, means.reshape(6, -1), strict=True))


def read_annotated(images: Sequence[str | Path], concepts: str | Path) -> dict[str, np.ndarray] | None:
    """Read from files which images show which annotated concepts, for `label_table`; None where there are no files.

    Gives ``image_id`` (images,), ``shown`` (images, concepts) bool, and ``word`` (concepts,).
    """
    if not images:
        return None
    listed, _ = read_arrays(concepts)
    shown = [block["features"] @ listed["features"].T > 0 for block in read_blocks(images, ["features"], _BLOCK)]
    return {"image_id": read_column(images, "image_id"), "shown": np.concatenate(shown), "word": listed["word"]}


def with_sets(
    table: pd.DataFrame, scores: Tensor, short: np.ndarray, groups: np.ndarray, words: np.ndarray
) -> pd.DataFrame:
    """Add the set of each unit, calibrated on the halves of the selective ones, and name those of one meaning.

    The gap is that at which, of so many selective units, the set by one half holds the other half's concept for
    `COVERAGE` of them and one more unit (Vovk et al. 2005, conformal prediction); infinite, so that a set holds the
    whole list, where there are fewer than `FEWEST_CALIBRATED` such units. A set that holds the whole list says
    nothing, so it is neither a name nor a theme. `short` (2, units) is of `Collected`.
    """
    selective = (table.status == "selective").to_numpy()
    known = short[:, selective & ~np.isnan(short).any(0)]
    n = known.shape[1]
    gap = (
        label_sets.covering_gap(torch.as_tensor(known.ravel()), COVERAGE * (n + 1) / n)
        if n >= FEWEST_CALIBRATED
        else np.inf
    )
    found = label_sets.sets(scores, gap, groups)
    size = np.array([len(each) if len(each) else np.nan for each in found])
    shown = ["; ".join(words[each[:_SET_SHOWN]]) for each in found]
    told = selective & np.isfinite(gap) & (size < len(np.unique(groups)))
    status = table.status.mask(told & (size <= LARGEST_THEME), "theme").mask(told & (size == 1), "named")
    return table.assign(gap=gap, set_size=size, set=shown, status=status)
