"""What a device cannot do: hold a batch, or compute in float64."""

from collections.abc import Callable

import torch
from torch import Tensor

_WORDS = (  # of errors that are not torch.OutOfMemoryError
    *("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_ALLOC_FAILED"),
    *("CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", "unable to find an engine to execute this computation"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory has run out: of CUDA, CUBLAS, cuDNN, MPS or the CPU's allocator."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words.lower() in str(error).lower() for words in _WORDS)


def halving(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Let a function of images (n, ...) to rows (n, ...) take a batch in halves, and again, where memory runs out.

    It goes on with the size that has worked, and says so in the log.
    """
    most = None

    def in_parts(images: Tensor) -> Tensor:
        nonlocal most
        parts, start = [], 0
        while start < len(images) or not parts:
            part = images[start : start + (most or len(images))]
            try:
                parts.append(run(part))
            except (RuntimeError, MemoryError) as error:
                if len(part) < 2 or not is_out_of_memory(error):
                    raise
                most = len(part) // 2
                print(f"out of memory with {len(part)} images at once: going on with {most}", flush=True)
            else:
                start += max(len(part), 1)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    return in_parts


def float64_device(device: torch.device) -> torch.device:
    """Give the device that computes in float64 for another: the CPU for Apple's GPUs, which do not."""
    return torch.device("cpu") if device.type == "mps" else device


def to_float64(values: Tensor) -> Tensor:
    """Give values (n, ...) as float64, on `float64_device`."""
    return values.to(float64_device(values.device)).double()
