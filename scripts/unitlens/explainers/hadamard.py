"""Hadamard matrices, square ones of 1 and -1 whose rows are orthogonal, and balanced designs of their columns.

Paley, "On Orthogonal Matrices" (Journal of Mathematics and Physics 12, 1933), makes them of the squares of a finite
field, Sylvester by doubling. Together, with fields of p or p^2 elements, p a prime, they give every order below 100
that is a multiple of 4 but 92.
"""

from functools import cache
from itertools import count
from math import isqrt

import torch
from torch import Tensor


def balanced_rows(n_columns: int, n_rows: int, generator: torch.Generator) -> Tensor:
    """Draw rows of 0 and 1 in pairs of complements, in blocks in which the columns are orthogonal.

    A block is a Hadamard matrix of order above `n_columns`: random ones of its columns but the first, each with a
    random sign, and its rows in random order, each followed by its complement. So a single row is as of independent
    coins, and in a block each column has 1 in half of the rows, and is uncorrelated with every other column and with
    every product of two. Blocks are drawn independently; of more rows, the first are those that fewer would be.

    Gives (n_rows, n_columns) uint8 on the device of the generator.
    """
    device = generator.device
    signs = matrix(n_columns + 1).to(device)
    order, blocks = len(signs), [torch.empty(0, n_columns, dtype=torch.uint8, device=device)]
    for _ in range(0, n_rows, 2 * order):
        columns = 1 + torch.randperm(order - 1, generator=generator, device=device)[:n_columns]
        rows = torch.randperm(order, generator=generator, device=device)
        turned = torch.randint(0, 2, (n_columns,), generator=generator, device=device, dtype=torch.bool)
        shown = (signs[rows][:, columns] > 0) ^ turned
        blocks.append(torch.stack([shown, ~shown], 1).flatten(0, 1).byte())
    return torch.cat(blocks)[:n_rows]


@cache
def matrix(least: int) -> Tensor:
    """Make the smallest matrix (order, order) int8 of order `least` or more that there is; its first column is 1."""
    signs = next(made for order in count(least) if (made := _of_order(order)) is not None)
    return signs * signs[:, :1]


def _of_order(order: int) -> Tensor | None:
    """Make a matrix by Paley's first or second construction, else by doubling; None where none of them has it."""
    if order <= 2:
        return _of_signs("+" if order == 1 else "++ +-")
    if order % 4:
        return None
    if (border := _bordered(order - 1, -1)) is not None:
        return border + torch.eye(order, dtype=torch.int8)
    if order % 8 == 4 and (border := _bordered(order // 2 - 1, 1)) is not None:
        diagonal = torch.kron(torch.eye(order // 2, dtype=torch.int8), _of_signs("+- --"))
        return torch.kron(border, _of_signs("++ +-")) + diagonal
    half = _of_order(order // 2)
    return None if half is None else torch.kron(_of_signs("++ +-"), half)


def _of_signs(text: str) -> Tensor:
    return torch.tensor([[1 if sign == "+" else -1 for sign in row] for row in text.split()], dtype=torch.int8)


def _bordered(q: int, left: int) -> Tensor | None:
    """Make Paley's matrix of a field of `q` elements under a row of 1 and beside a column of `left`; 0 in the corner.

    It tells of the difference of two elements whether it is a square (1), none (-1), or 0; None where there is no field
    of an odd prime or its square.
    """
    p = q if _is_prime(q) else isqrt(q)
    if p == 2 or (p**2 != q and p != q) or not _is_prime(p):
        return None
    kinds = torch.full((p,), -1, dtype=torch.int8)
    kinds[torch.arange(p) ** 2 % p] = 1
    kinds[0] = 0
    number = torch.arange(q)
    high, low = ((part[:, None] - part) for part in (number // p, number % p))
    # For p^2 elements a + b sqrt(r), r no square of p: one is a square where its norm a^2 - r b^2 is one of p.
    no_square = int((kinds == -1).nonzero()[0])
    norm = low if p == q else high**2 - no_square * low**2
    border = torch.ones(q + 1, q + 1, dtype=torch.int8)
    border[1:, 0], border[0, 0] = left, 0
    border[1:, 1:] = kinds[norm % p]
    return border


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % factor for factor in range(2, isqrt(number) + 1))
