"""Batches in halves where memory runs out, on functions that say so."""

import pytest
import torch
from unitlens.networks.memory import float64_device, halving, is_out_of_memory, to_float64

MESSAGES = [
    "CUDA out of memory. Tried to allocate 2.00 GiB",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    "[enforce fail at alloc_cpu.cpp:114] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
    "MPS backend out of memory (MPS allocated: 1 GB)",
]


@pytest.mark.parametrize("message", MESSAGES)
def test_every_allocator_is_understood(message):
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(ValueError(message))
    assert is_out_of_memory(torch.OutOfMemoryError(message)) and is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("fits", [1, 2, 3, 7, 20])
def test_a_batch_is_halved_until_it_fits_and_stays_so(message, fits, capsys):
    sizes = []

    @halving
    def run(images):
        sizes.append(len(images))
        if len(images) > fits:
            raise RuntimeError(message)
        return 2 * images

    images = torch.arange(20.0)[:, None]
    assert run(images).equal(2 * images)
    failed = [size for size in sizes if size > fits]
    assert sum(sizes) - sum(failed) == 20 and min(sizes) > 0, "every image once, and no empty batch"
    assert run(images).equal(2 * images)
    assert [size for size in sizes if size > fits] == failed  # no second try
    lines = [f"out of memory with {size} images at once: going on with {size // 2}\n" for size in failed]
    assert capsys.readouterr().out == "".join(lines)
    assert run(images[:0]).shape == (0, 1)


def test_one_image_that_does_not_fit_and_other_errors_are_raised():
    sizes = []

    def failing(message):
        def run(images):
            sizes.append(len(images))
            raise RuntimeError(message)

        return halving(run)

    with pytest.raises(RuntimeError, match="out of memory"):
        failing("CUDA out of memory")(torch.zeros(8, 1))
    assert sizes == [8, 4, 2, 1]
    with pytest.raises(RuntimeError, match=r"^shapes$"):
        failing("shapes")(torch.zeros(8, 1))
    assert sizes[4:] == [8], "fewer images would not help"


def test_only_the_gpus_of_apple_leave_float64_to_the_cpu():
    devices = [float64_device(torch.device(name)).type for name in ("cpu", "cuda", "mps")]
    assert devices == ["cpu", "cuda", "cpu"]
    assert to_float64(torch.ones(2)).dtype == torch.float64
