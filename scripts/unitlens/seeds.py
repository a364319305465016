"""Seeds of images: what is random for an image depends on the run's seed and the image's id, and on nothing else."""

import hashlib


def image_seed(seed: int, image_id: str) -> int:
    """Derive a 63-bit seed from the run's seed and an image's id, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{image_id}".encode(), digest_size=8).digest()) >> 1
