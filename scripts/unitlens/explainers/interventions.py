"""What a network says without some units of a layer: switched off, a unit is zero at every position and in every token.

That is the network whose weights and bias that make the unit are zero. Bau et al. (PNAS 2020) switch units off so.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from unitlens.explainers.forward import check_arguments, checked_forward, frozen, in_chunks, pick
from unitlens.explainers.tail import as_logits, find_tail
from unitlens.jobs.progress import progress
from unitlens.networks.layer_outputs import channel_axis
from unitlens.storage.arrays import as_texts


class Outcome(NamedTuple):
    """The logits of the classes asked for, and the classes of the highest logit."""

    score: Tensor  # (n,)
    predicted: Tensor  # (n,) int64


def switch_off(
    model: nn.Module, layer: str, images: Tensor, targets: Tensor, off: Tensor, trials: Tensor, *, chunk: int = 64
) -> tuple[Outcome, Outcome]:
    """Run a network with sets of units of one layer switched off, of which only what follows the layer runs again.

    Parameters
    ----------
    model, layer, images, targets, chunk
        As of `contributions.account`: images (n, channels, h, w), targets (n,).
    off : (sets, units) bool Tensor
        The units of each set.
    trials : (m, 2) int Tensor
        The image and the set of each trial.

    Returns
    -------
    whole : Outcome
        Of each image, with all units.
    without : Outcome
        Of each trial.

    Raises
    ------
    ValueError
        As of `contributions.account`, and if the layer has another number of units than `off`.
    """
    images, targets = check_arguments(images, targets, chunk)
    off, trials = off.to(images.device), trials.to(images.device)
    order = trials[:, 0].argsort()

    @torch.inference_mode()
    def run(images: Tensor, targets: Tensor, chunk: int, first: int) -> tuple[Outcome, Outcome]:
        activations, logits = checked_forward(model, layer, images, first)
        axis = 1 if activations.ndim == 2 else channel_axis(activations, *images.shape[2:])
        if activations.shape[axis] != off.shape[1]:
            raise ValueError(f"layer {layer!r} has {activations.shape[axis]} units, the sets {off.shape[1]}")
        whole = Outcome(pick(logits, targets, first), logits.argmax(1))
        _, tail = find_tail(model, layer, images, activations, logits)
        own = trials[order]
        own = own[(own[:, 0] >= first) & (own[:, 0] < first + len(images))]
        parts = [Outcome(logits.new_empty(0), targets.new_empty(0))]
        for part in own.split(chunk):
            image = part[:, 0] - first
            zero = off[part[:, 1]].view(len(part), -1, *[1] * (activations.ndim - 2)).movedim(1, axis)
            without = as_logits(tail(activations[image].masked_fill(zero, 0), image), len(part))
            parts.append(Outcome(pick(without, targets[image]), without.argmax(1)))
        return whole, _joined(parts)

    with frozen(model):
        whole, without = zip(*in_chunks(run, images, targets, chunk), strict=True)
    back = order.argsort()
    return _joined(whole), Outcome(*(values[back] for values in _joined(without)))


def run_trials(
    images: Mapping[str, np.ndarray],
    off: np.ndarray,
    trials: Mapping[str, np.ndarray],
    model: nn.Module,
    layer: str,
    normalize: Callable[[Tensor], Tensor],
    *,
    batch_size: int,
    device: torch.device | str = "cpu",
) -> dict[str, np.ndarray]:
    """Run those trials whose images are in one shard.

    `images` holds ``images`` (n, h, w, channels) uint8, ``image_id`` and ``source_image``, arrays or open datasets;
    `off` is (sets, units) bool; `trials` holds ``image_id``, ``class``, that of the image, and ``set`` of each trial.
    Gives these, ``source_image`` and ``score, predicted, score_off, predicted_off``, a row a trial, in the order of the
    shard's images, those of an image as given.
    """
    place = {image_id: row for row, image_id in enumerate(as_texts(images["image_id"]))}
    row = np.array([place.get(image_id, -1) for image_id in trials["image_id"]], dtype=np.int64)
    chosen = np.flatnonzero(row >= 0)
    chosen = chosen[row[chosen].argsort(kind="stable")]
    rows, first = np.unique(row[chosen], return_index=True)
    found = {name: np.asarray(values)[chosen] for name, values in trials.items()}
    found["source_image"] = as_texts(images["source_image"])[row[chosen]]
    classes, image = found["class"][first], np.searchsorted(rows, row[chosen])
    parts = [{"score": np.zeros(0, np.float32), "predicted": np.zeros(0, np.int64)}]
    parts[0] |= {f"{name}_off": values for name, values in parts[0].items()}
    starts = range(0, len(rows), batch_size)
    for batch in progress((np.arange(len(rows))[start : start + batch_size] for start in starts), len(rows), "images"):
        own = np.flatnonzero(np.isin(image, batch))
        pixels = torch.as_tensor(images["images"][rows[batch]]).to(device)
        pairs = torch.as_tensor(np.stack([image[own] - batch[0], found["set"][own]], axis=1))
        targets = torch.as_tensor(classes[batch]).to(device)
        whole, without = switch_off(
            model, layer, normalize(pixels), targets, torch.as_tensor(off), pairs, chunk=batch_size
        )
        arrays = {name: values[pairs[:, 0].to(values.device)] for name, values in whole._asdict().items()}
        arrays |= {f"{name}_off": values for name, values in without._asdict().items()}
        parts.append({name: values.cpu().numpy() for name, values in arrays.items()})
    return found | {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _joined(outcomes: list[Outcome]) -> Outcome:
    return Outcome(*map(torch.cat, zip(*outcomes, strict=True)))
