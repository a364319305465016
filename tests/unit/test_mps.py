"""No float64 on Apple's GPUs: what runs on one is run on a stand-in, which refuses what these refuse.

Tensors of the stand-in call themselves "mps" and hold their numbers on the CPU.
"""

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from unitlens.images import fill
from unitlens.measures import perturbation


class OnApple(torch.Tensor):
    @staticmethod
    def __new__(cls, values):
        facts = {"strides": values.stride(), "dtype": values.dtype, "device": "mps"}
        return torch.Tensor._make_wrapper_subclass(cls, values.shape, **facts)

    def __init__(self, values):
        self.values = values

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        with Apple():
            return function(*args, **(kwargs or {}))


class Apple(TorchDispatchMode):
    """Run every operation on the CPU, and refuse float64 and a mixture of devices where one is of Apple."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
        wanted = kwargs.get("device")
        here = any(isinstance(value, OnApple) for value in given)
        moves = function in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        if here and not moves and any(value.ndim and not isinstance(value, OnApple) for value in given):
            indices = all(value.dtype in (torch.int64, torch.bool) for value in given if not isinstance(value, OnApple))
            assert indices, f"{function}: tensors of two devices"
        there = here if wanted is None else wanted.type == "mps"
        kwargs = kwargs if wanted is None else kwargs | {"device": torch.device("cpu")}
        args, kwargs = tree_map(lambda value: value.values if isinstance(value, OnApple) else value, (args, kwargs))
        found = function(*args, **kwargs)
        if function is torch.ops.aten._local_scalar_dense.default or not there:
            return found

        def put(value):
            if not isinstance(value, torch.Tensor):
                return value
            if value.dtype == torch.float64:
                raise TypeError(f"{function}: MPS has no float64")
            return next((each for each in given if isinstance(each, OnApple) and each.values is value), OnApple(value))

        return tree_map(put, found)


class Moves(TorchFunctionMode):
    """Make and move tensors there, which torch itself only does where it was built for it."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not any(_is_apple(value) for value in (*args, *kwargs.values())):
            return function(*args, **kwargs)
        if args and isinstance(args[0], OnApple):  # it is there
            rest = [value for value in args if not _is_apple(value)]
            kwargs = {key: value for key, value in kwargs.items() if not _is_apple(value)}
            return function(*rest, **kwargs) if len(rest) + len(kwargs) > 1 else args[0]
        args = [torch.device("cpu") if _is_apple(value) else value for value in args]
        kwargs = {key: torch.device("cpu") if _is_apple(value) else value for key, value in kwargs.items()}
        found = function(*args, **kwargs)
        if found.dtype == torch.float64:
            raise TypeError(f"{function}: MPS has no float64")
        return OnApple(found)


def _is_apple(value):
    return isinstance(value, str | torch.device) and str(value) == "mps"


@pytest.fixture
def images():
    return torch.randint(0, 256, (2, 24, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def on_apple(values):
    return values.to("mps")


def test_the_stand_in_refuses_float64(images):
    with Moves(), Apple():
        moved = on_apple(images)
        assert moved.device.type == "mps" and torch.equal(moved.cpu(), images)
        with pytest.raises(TypeError, match="no float64"):
            moved.double()
        with pytest.raises(TypeError, match="no float64"):
            torch.zeros(2, dtype=torch.float64, device="mps")


def test_images_are_blurred(images):
    with Moves(), Apple():
        assert torch.equal(fill.blurred(on_apple(images)).cpu(), fill.blurred(images))


def test_the_mean_color_of_an_image(images):
    expected = perturbation.BASELINES["mean"](images[0])
    with Moves(), Apple():
        assert torch.equal(perturbation.BASELINES["mean"](OnApple(images[0])).cpu(), expected)
