"""Read pickles as data: nothing that a file asks for is imported or called."""

import mmap
import pickle
import pickletools
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import IO

NESTED = 20  # tuples in tuples: those of a checkpoint are three deep, and Python's hash of a million ends the process

ARRAYS = (  # all that a pickle of numpy arrays names
    "numpy.core.multiarray._reconstruct",  # written by numpy 1
    "numpy._core.multiarray._reconstruct",
    "numpy.ndarray",
    "numpy.dtype",
)
_PLAIN = re.compile("(BIN)?(INT|FLOAT|STRING|UNICODE|BYTES)[128]?|LONG[14]?|SHORT_BIN(STRING|UNICODE|BYTES)")


class Name(str):
    """The name of something that a pickle would import."""

    __slots__ = ()


@dataclass(eq=False, slots=True)
class Made:
    """What a pickle would make: with which function, from which arguments, and the state that it would then set."""

    function: object
    arguments: object
    state: object = None


class _Tuple(tuple):
    """A tuple that knows how many tuples lie in each other in it."""

    def __init__(self, items: Collection[object] = ()):
        self.level = 1 + max((item.level for item in items if isinstance(item, _Tuple)), default=0)
        if self.level > NESTED:
            raise pickle.UnpicklingError(f"more than {NESTED} tuples lie in each other")


_MAKERS = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": set,
    "EMPTY_TUPLE": _Tuple,
}


def operate(file: IO[bytes] | mmap.mmap, names: Collection[str] | None = None) -> object:
    """Go through the operations of the next pickle in a file, with `Made` in place of whatever it would make.

    Strings of Python 2 become text, byte by byte. With `names`, any other name is an UnpicklingError, as is whatever
    makes no sense; a file that ends too early, or holds no pickle, is a ValueError.
    """
    stack, marks, memo = [], [], {}

    def pop(count: int) -> list[object]:
        if count > len(stack):
            raise pickle.UnpicklingError("it takes more than it has put")
        items = stack[len(stack) - count :]
        del stack[len(stack) - count :]
        return items

    def since_mark() -> list[object]:
        return pop(len(stack) - marks.pop())

    def add(items: list[object]) -> None:
        if isinstance(stack[-1], list):
            stack[-1].extend(items)
        elif not isinstance(stack[-1], Made):
            raise pickle.UnpicklingError("it appends to something other than a list")

    def set_items(items: list[object]) -> None:
        if isinstance(stack[-1], dict):
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif not isinstance(stack[-1], Made):
            raise pickle.UnpicklingError("it sets items of something other than a dictionary")

    def name(text: str) -> None:
        if names is not None and text not in names:
            raise pickle.UnpicklingError(f"the file asks for {text}; only numpy arrays are read")
        stack.append(Name(text))

    for opcode, argument, _ in pickletools.genops(file):
        match opcode.name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case code if _PLAIN.fullmatch(code):
                stack.append(argument)
            case code if code in _MAKERS:
                stack.append(_MAKERS[code]())
            case "MARK":
                marks.append(len(stack))
            case "TUPLE":
                stack.append(_Tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3" as code:
                stack.append(_Tuple(pop(int(code[-1]))))
            case "LIST":
                stack.append(since_mark())
            case "DICT":
                items = since_mark()
                stack.append({})
                set_items(items)
            case "APPEND":
                add(pop(1))
            case "APPENDS":
                add(since_mark())
            case "SETITEM":
                set_items(pop(2))
            case "SETITEMS":
                set_items(since_mark())
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                name(argument.replace(" ", "."))
            case "STACK_GLOBAL":
                name(".".join(pop(2)))
            case "REDUCE" | "NEWOBJ":
                stack.append(Made(*pop(2)))
            case "BINPERSID":
                stack.append(Made(Name("persistent"), pop(1)[0]))
            case "BUILD":
                (state,) = pop(1)
                if not isinstance(stack[-1], Made):
                    raise pickle.UnpicklingError("it sets the state of something that it has not made")
                stack[-1].state = state
            case code:
                raise pickle.UnpicklingError(f"it holds the operation {code}")
    return stack.pop()
