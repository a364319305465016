import pytest
from unitlens.jobs.characters import first_few, nearest, shorten, text_problem, visible, word_problem

HIDDEN = [
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    0x200E,
    0x200F,
    0x061C,
    0x200B,
    0x200D,
    0xFEFF,
    0x2028,
    0x2029,
]


@pytest.mark.parametrize("code", [*HIDDEN, 0x00, 0x07, 0x09, 0x0A, 0x1B, 0x7F, 0x85, 0xAD, 0xD800, 0xE0001, 0x10FFFF])
def test_what_is_not_seen_is_shown_as_its_escape(code):
    escape = rf"\x{code:02x}" if code < 256 else rf"\u{code:04x}" if code < 65536 else rf"\U{code:08x}"
    escape = {0x09: r"\t", 0x0A: r"\n"}.get(code, escape)
    assert visible(f"a{chr(code)}b") == f"a{escape}b"


@pytest.mark.parametrize(
    "text", ["", "plain", "Käse & <b>", "日本語\u3000語", "שלום", "10\u00a0%", "🐱", "e\u0301", r"\u202e"]
)
def test_what_is_seen_stays(text):
    assert visible(text) == text


def test_line_ends_stay_on_request():
    assert visible("a\nb\t", keep="\n") == r"a" "\n" r"b\t"


def test_long_texts_lose_their_middle():
    assert shorten("a" * 400) == "a" * 400
    assert shorten("a" * 200 + "b" * 21 + "c" * 180) == "a" * 200 + " … " + "c" * 180


def test_five_things_are_listed():
    assert [first_few(range(count)) for count in (0, 1, 5, 6)] == ["", "0", "0, 1, 2, 3, 4", "0, 1, 2, 3, 4, ..."]


def test_the_three_nearest_names_are_given_however_far():
    assert nearest("resnet81", ["vgg", "resnet18", "zzz", "resnet", "resnet8x"]) == "resnet8x, resnet18, resnet"
    assert nearest("q", ["abc"]) == "abc" and nearest("q", []) == "none"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("a", ""),
        ("a\tb", "has the control character U+0009"),
        ("a\u2028", "has the control character U+2028"),
        ("a" * 4096, ""),
        ("a" * 4097, "has 4097 characters, at most 4096 are allowed"),
    ],
)
def test_what_no_key_takes(text, problem):
    assert text_problem(text) == problem
    assert word_problem(text) == (problem if text else "")


def test_a_word_does_not_hold_what_separates_words():
    assert word_problem("a; b") == "must not contain '; ', which separates words in tables"
    assert word_problem("a;b") == text_problem("a; b") == ""
