"""Which units of a layer made a prediction: an account that adds up to the score of a class.

A unit contributes its activation times the gradient of the score, summed over positions; what all units of the layer do
not carry, the biases after it, is the remainder. Where pooling and a linear head follow, a contribution is exactly what
the unit adds to the score. The products before the sum are HiResCAM's (Draelos & Carin 2020, arXiv 2011.08891).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unitlens.explainers.forward import check_arguments, check_finite, forward, frozen, in_chunks, pick
from unitlens.explainers.items import LOWERING, RAISING
from unitlens.networks.hooks import count_calls
from unitlens.networks.layer_outputs import as_grid
from unitlens.networks.memory import to_float64

__all__ = ["Account", "account", "explain"]

OF_CLASS = ("activity", "gradient")  # what is kept of the account of the class only


class Account(NamedTuple):
    """Accounts of one score of n images; ``contributions.sum(1) + tokens + remainder`` is the score."""

    contributions: Tensor  # (n, units), summed over the positions of the image
    tokens: Tensor  # (n,) what the tokens without a position contribute, as a class token; 0 for maps
    remainder: Tensor  # (n,)
    score: Tensor  # (n,)
    shown: Tensor  # (n, k) int64: the units that raise the score most, the first first, and those that lower it most
    places: Tensor  # (n, k, h, w) what these contribute at each position; h = w = 1 for a layer without positions
    total: Tensor  # (n, h, w) what all units contribute at each position: HiResCAM's map before its ReLU
    activity: Tensor  # (n, units) mean of the absolute activation over the positions
    gradient: Tensor  # (n, units) of the score, summed over the positions; a linear head's weight behind pooling


def account(
    model: nn.Module, layer: str, images: Tensor, targets: Tensor, *, chunk: int = 64
) -> tuple[Tensor, Tensor, Tensor]:
    """Account for one logit per image by the units of `layer`.

    Parameters
    ----------
    model : nn.Module
        Classifier returning logits (n, classes), or (n,) if it has one output.
    layer : str
        Dotted name of a layer with outputs (n, c, h, w), (n, h, w, c), tokens (n, t, c) or (n, c).
    images : (n, channels, h, w) float Tensor
        Normalized as the model expects, on its device.
    targets : (n,) int Tensor
        The logit to account for in each image.
    chunk : int
        The most images in flight at once.

    Returns
    -------
    contributions : (n, units) Tensor
        Sum over positions of activation times gradient; of tokens those of the image.
    remainder : (n,) Tensor
        The rest of the logit: biases after the layer, and tokens that are not of the image, as a class token.
    logits : (n,) Tensor
        ``contributions.sum(1) + remainder``.

    Raises
    ------
    ValueError
        If an argument is out of range; if the layer is unknown, runs more than once or does not influence the output;
        if the arithmetic is of less than float32; if a number is NaN or infinite (the message names layer and image).

    Notes
    -----
    The account is the first-order one with an activation of 0 as the baseline: units that act together share the
    credit, and another baseline gives another account.
    """
    of_class, _, _ = explain(model, layer, images, targets, chunk=chunk)
    return of_class.contributions, of_class.remainder + of_class.tokens, of_class.score


def explain(
    model: nn.Module, layer: str, images: Tensor, targets: Tensor, *, chunk: int = 64
) -> tuple[Account, Account, Tensor]:
    """Account for the logit of a class and for its margin over the runner-up; arguments and errors as of `account`.

    A ValueError, among others, if the layer runs more than once. Gives both accounts and the runner-up (n,), the class
    of the highest other logit; -1, with a margin of NaN, where there is only one class.
    """
    images, targets = check_arguments(images, targets, chunk)

    def run(images: Tensor, targets: Tensor, chunk: int, first: int) -> tuple[Account, Account, Tensor]:
        activations, logits = forward(model, layer, images, first)
        score = pick(logits, targets, first)
        of_class = _account_for(score, activations, images, layer, first)
        if logits.shape[1] == 1:
            return of_class, _unknown(of_class), torch.full_like(targets, -1)
        runner_up = logits.detach().scatter(1, targets[:, None], -torch.inf).argmax(1)
        margin = score - pick(logits, runner_up, first)
        return of_class, _account_for(margin, activations, images, layer, first), runner_up

    if reason := refusal(model, layer, images):
        raise ValueError(reason)
    with frozen(model), torch.inference_mode(False), torch.enable_grad():
        of_class, of_margin, runner_up = zip(*in_chunks(run, images, targets, chunk), strict=True)
    return _joined(of_class), _joined(of_margin), torch.cat(runner_up)


def refusal(model: nn.Module, layer: str, images: Tensor) -> str:
    """Say why predictions for `images` (n, channels, h, w) have no account by a layer; empty where they have one."""
    if images.dtype not in (torch.float32, torch.float64):
        return f"an account needs float32: in {images.dtype} it misses the logit by percents"
    with frozen(model):
        calls = count_calls(model, layer, images)
    return f"layer {layer!r} runs {calls} times: no one call of it carries the whole score" if calls > 1 else ""


def _account_for(score: Tensor, activations: Tensor, images: Tensor, layer: str, first: int) -> Account:
    """Account for a score (n,) of images whose layer gave `activations`."""
    (gradients,) = torch.autograd.grad(score.sum(), activations, retain_graph=True)
    activations = activations.detach()
    products = to_float64(activations * gradients)

    def by_position(values: Tensor) -> Tensor:
        return values[..., None, None] if values.ndim == 2 else as_grid(values, images, layer)

    grid = by_position(products)
    units = grid.sum((2, 3))
    check_finite(units, "contributions", layer, first)
    tokens = products.sum((1, 2)) - units.sum(1) if products.ndim == 3 else units.new_zeros(len(units))
    score = to_float64(score.detach())
    order = units.argsort(dim=1, descending=True, stable=True)
    shown = torch.cat([order[:, :RAISING], order.flip(1)[:, :LOWERING]], dim=1)
    places = grid[torch.arange(len(grid), device=grid.device)[:, None], shown]
    remainder = score - units.sum(1) - tokens
    activity, gradient = by_position(activations.abs()).mean((2, 3)), by_position(gradients).sum((2, 3))
    total = grid.sum(1).float()
    return Account(units, tokens, remainder, score, shown, places.float(), total, activity.float(), gradient.float())


def nothing(count: int) -> dict[str, Tensor]:
    """Give the arrays of accounts of `count` images by no unit: what is known of predictions that have none."""
    unknown, none = torch.full((count,), torch.nan, dtype=torch.float64), torch.zeros(count, 0)
    maps = none[..., None, None], none[..., None]
    empty = Account(none.double(), unknown, unknown, unknown, none.long(), *maps, none, none)
    return as_arrays(empty, empty, torch.full((count,), -1))


def as_arrays(of_class: Account, of_margin: Account, runner_up: Tensor) -> dict[str, Tensor]:
    """Name what is kept of the accounts of `explain`, of the margin after ``margin_``; ``runner_up`` is (n,)."""
    arrays = of_class._asdict()
    arrays |= {f"margin_{name}": values for name, values in of_margin._asdict().items() if name not in OF_CLASS}
    arrays |= {name: arrays[name].float() for name in ("contributions", "margin_contributions")}
    return arrays | {"runner_up": runner_up}


def _unknown(account: Account) -> Account:
    """Give an account of the same form in which no number is known."""
    numbers = {name: torch.full_like(getattr(account, name), torch.nan) for name in Account._fields if name != "shown"}
    return account._replace(**numbers)


def _joined(accounts: Sequence[Account]) -> Account:
    return Account(*map(torch.cat, zip(*accounts, strict=True)))
