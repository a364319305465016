"""The committed concept list: a bad row would shift or split the labels of every unit, so its form is pinned here."""

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

CONCEPTS = Path(__file__).parents[2] / "config" / "concepts" / "common.csv"
CATEGORIES = {"object", "scene", "part", "material", "texture", "color"}
TOKEN = r"[a-z]+(?:-[a-z]+)*"
ONE_OR_TWO_WORDS = re.compile(rf"{TOKEN}(?: {TOKEN})?")


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    with CONCEPTS.open(encoding="ascii", newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.fixture(scope="module")
def words(rows) -> list[str]:
    return [word for word, _ in rows]


def plurals(word: str) -> set[str]:
    regular = {word + "s", word + "es"}
    return regular | {word[:-1] + "ies"} if word.endswith("y") else regular


def test_file_is_plain_csv_with_the_documented_header():
    content = CONCEPTS.read_bytes()
    assert content.startswith(b"word,category\n")
    assert content.endswith(b"\n")
    assert b"\r" not in content
    assert b"\n\n" not in content
    assert b'"' not in content


def test_list_is_large_and_has_exactly_the_six_categories(rows):
    assert len(rows) >= 600
    assert {category for _, category in rows} == CATEGORIES


def test_words_are_one_or_two_lower_case_words(words):
    assert [word for word in words if not ONE_OR_TWO_WORDS.fullmatch(word)] == []


def test_no_word_occurs_twice_whatever_its_category_or_spacing(words):
    counts = Counter(re.sub("[ -]", "", word) for word in words)
    assert [word for word, count in counts.items() if count > 1] == []


def test_no_word_is_the_plural_of_another(words):
    assert {word: plurals(word) & set(words) for word in words if plurals(word) & set(words)} == {}


def test_rows_are_sorted_by_category_then_word(rows):
    assert rows == sorted(rows, key=lambda row: (row[1], row[0]))
