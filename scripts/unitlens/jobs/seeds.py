"""Seeds of images: what is random for an image depends on the run's seed and the image's id, and on nothing else."""

import hashlib
from collections.abc import Sequence
from numbers import Integral


def image_seed(seed: int, image_id: str) -> int:
    """Derive a 63-bit seed from the run's seed and an image's id, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{image_id}".encode(), digest_size=8).digest()) >> 1


def stream_seeds(seed: int, stream: str, image_ids: Sequence[str]) -> list[int]:
    """Give every image a seed of its own for one use of randomness, such as the order of one explainer's ties."""
    return [image_seed(seed, f"{stream}/{image_id}") for image_id in image_ids]


def repeated_ids(image_ids: Sequence[str], repeats: int) -> list[list[str]]:
    """Name the images of each repeat: the first time as they are, so that repeats do not change the first result."""
    again = [[f"{image_id}/{repeat}" for image_id in image_ids] for repeat in range(1, repeats)]
    return [list(image_ids), *again]


def one_each(seeds: int | Sequence[int], n_images: int, name: str) -> list[int]:
    """Give each image its seed: the same, or its own; a ValueError if there is not one per image."""
    seeds = [int(seed) for seed in ([seeds] * n_images if isinstance(seeds, Integral) else seeds)]
    if len(seeds) != n_images:
        raise ValueError(f"`{name}` holds {len(seeds)} seeds for {n_images} images; give one, or one per image")
    return seeds
