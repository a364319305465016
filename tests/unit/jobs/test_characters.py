import pytest
from unitlens.jobs.characters import visible

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
