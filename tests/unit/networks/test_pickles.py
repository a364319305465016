"""Pickles read as data: plain ones come back, what would be made is named, and what makes no sense is refused."""

import io
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from unitlens.networks import pickles
from unitlens.networks.pickles import Made, operate

PLAIN = {
    "numbers": [0, 1, -1, 255, 70000, 2**40, -(2**70), 0.5],
    "texts": ["", "é", "x" * 300, b"", b"y", b"z" * 300],
    "truths": [True, False, None],
    "nested": ({}, [], (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, (4, [5, {6: 7}]))),
    "one": [8],
}


def read(value, protocol=4, **options):
    return operate(io.BytesIO(pickle.dumps(value, protocol)), **options)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_plain_values_come_back(protocol):
    shared = ["a"]
    values = PLAIN if protocol > 2 else PLAIN | {"texts": ["", "é"]}  # which calls a function for bytes
    found = read(values | {"twice": [shared, shared]}, protocol, names=())
    assert found == values | {"twice": [shared, shared]}
    assert [type(each) for each in found["truths"]] == [bool, bool, type(None)]
    assert found["twice"][0] is found["twice"][1]


def test_the_oldest_protocol_comes_back():
    values = {"list": [1, 0.5, None, "a"], "tuple": (1, (2,)), "dictionary": {"a": {}}, "empty": ()}
    assert read(values, 0, names=()) == values
    assert operate(io.BytesIO(b"U\x01\xe9.")) == "é", "strings of Python 2, byte by byte"


@pytest.mark.parametrize("protocol", [2, 4])
def test_what_would_be_made_has_its_name_its_arguments_and_its_state(protocol):
    made = read(OrderedDict(a=1), protocol)
    assert isinstance(made, Made) and made.function == "collections.OrderedDict" and made.arguments == ()
    for order in ("C", "F"):
        array = read(np.array([[1.0, 2.0], [3.0, 4.0]], order=order), protocol)
        _, shape, dtype, fortran, data = array.state
        assert (shape, fortran) == ((2, 2), order == "F")
        assert array.function in pickles.ARRAYS and array.arguments[0] == "numpy.ndarray"
    assert protocol == 2 or data == np.array([1.0, 3.0, 2.0, 4.0]).tobytes()
    assert dtype.function == "numpy.dtype" and dtype.arguments[0] == "f8" and dtype.state[1] == "<"
    with pytest.raises(pickle.UnpicklingError, match=r"asks for collections\.OrderedDict; only numpy arrays are read"):
        read(OrderedDict(), protocol, names=pickles.ARRAYS)


def test_one_pickle_after_another_is_read():
    file = io.BytesIO(pickle.dumps(1) + pickle.dumps("two"))
    assert [operate(file), operate(file)] == [1, "two"]
    for content in (b"", b"\x80\x04", pickle.dumps([1, 2])[:-1], b"\xff"):
        with pytest.raises(ValueError, match=r"before seeing STOP|unknown"):
            operate(io.BytesIO(content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02\x86.", "takes more than it has put"),
        (b"\x80\x02K\x01K\x02a.", "appends to something other than a list"),
        (b"\x80\x02K\x01K\x02K\x03s.", "sets items of something other than a dictionary"),
        (b"\x80\x02K\x01}b.", "sets the state of something that it has not made"),
        (b"\x80\x02]}K\x01b.", "sets the state of something that it has not made"),
        (b"\x80\x02)0.", "holds the operation POP"),
    ],
)
def test_what_makes_no_sense_is_refused(content, message):
    with pytest.raises(pickle.UnpicklingError, match=message):
        operate(io.BytesIO(content))


def test_tuples_lie_in_each_other_up_to_twenty_deep():
    value = ()
    for _ in range(pickles.NESTED - 1):
        value = (value, 1)
    assert read(value) == value
    with pytest.raises(pickle.UnpicklingError, match="more than 20 tuples lie in each other"):
        read((value,))
    assert len(read([(1, 2)] * 50)) == 50
