"""The form of a config: what departs from the schema, and the defaults of what is left out."""

import copy
import difflib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import jsonschema
import yaml

from unitlens.jobs.characters import CONTROL, shorten, text_problem

_OTHER_BASE = re.compile(r"[-+]?(0[0-7_]+|[0-9_]+(:[0-5]?[0-9])+(\.[0-9_]*)?)")  # of YAML 1.1
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # in C where there is one: every job reads the schema


def read_schema(path: str | Path) -> dict:
    """Read the schema."""
    return yaml.load(Path(path).read_text(encoding="utf-8"), _LOADER)


def misread(path: str | Path) -> list[str]:
    """List what is read otherwise than it looks in a YAML or JSON file.

    These are keys that stand twice in a mapping, of which Snakemake takes the last, and numbers of the base 8 (``010``)
    or 60 (``1:30``).
    """
    text, problems, seen = Path(path).read_text(encoding="utf-8"), [], set()
    try:
        nodes = [yaml.compose(text, _LOADER)]
    except yaml.YAMLError:  # JSON that is no YAML, with tabs for example
        repeated = []
        json.loads(text, object_pairs_hook=lambda pairs: repeated.extend(Counter(key for key, _ in pairs).items()))
        return [f"{path}: the key {key!r} appears {count} times" for key, count in repeated if count > 1]
    while nodes:
        node = nodes.pop()
        if node is None or id(node) in seen:
            continue
        if isinstance(node, yaml.ScalarNode):
            if not node.style and node.tag.endswith((":int", ":float")) and _OTHER_BASE.fullmatch(node.value):
                read = f"{node.value} is {yaml.load(node.value, _LOADER)} to YAML"
                problems.append(
                    f"{path} line {node.start_mark.line + 1}: {read}; write numbers by ten, names in quotes"
                )
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
            continue
        lines = {}
        for key, value in node.value:
            line, name = key.start_mark.line + 1, (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if name in lines:
                where = f"{path} line {line}"
                problems.append(f"{where}: the key {key.value!r} is already on line {lines[name]}; keep one")
            elif name:
                lines[name] = line
            nodes.append(value)
    return problems


def violations(config: dict, schema: dict) -> list[str]:
    """Say in a line each where the config departs from the schema and what is allowed there."""
    types = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {  # no text that no key takes, no number that is not finite, no whole number that is written as another
            "string": lambda checker, value: isinstance(value, str) and not text_problem(value),
            "integer": lambda checker, value: type(value) is int,
            "number": lambda checker, value: type(value) is int or (type(value) is float and math.isfinite(value)),
        }
    )
    validator = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=types)(schema)
    return [line for error in validator.iter_errors(config) for line in _explain(error, schema)]


def fill_in_defaults(config: dict, schema: dict) -> None:
    """Set what the config leaves out to the schema's default, wherever the schema gives one."""
    check_properties = jsonschema.Draft202012Validator.VALIDATORS["properties"]

    def set_defaults(
        validator: object, properties: dict, instance: object, schema: dict
    ) -> Iterator[jsonschema.ValidationError]:
        for name, each in properties.items():
            if "default" in each and isinstance(instance, dict):
                instance.setdefault(name, copy.deepcopy(each["default"]))
        yield from check_properties(validator, properties, instance, schema)

    filling = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"properties": set_defaults})
    filling(schema).validate(config)


def _explain(error: jsonschema.ValidationError, root: dict) -> list[str]:
    place = CONTROL.sub("?", ".".join(map(str, error.absolute_path))) or "config"
    found, rule = error.instance, error.schema
    renamed = rule.get("renamed", {})  # what it was called before, in the schema beside what it is now
    if error.validator == "additionalProperties":
        allowed = ", ".join(rule["properties"])
        unknown = [key for key in found if key not in rule["properties"]]
        hints = [
            f"it is {renamed[key]!r} now"
            if key in renamed
            else f"{_nearest(key, rule['properties']) or _homes(key, root)}allowed: {allowed}"
            for key in unknown
        ]
        return [f"{place}: unknown key {key!r}; {hint}" for key, hint in zip(unknown, hints, strict=True)]
    if error.validator == "enum" and isinstance(found, str) and found.lower() in renamed:
        return [f"{place}: {found!r} is called {renamed[found.lower()]!r}"]
    if error.validator in ("oneOf", "anyOf"):
        if not isinstance(found, dict):
            return []  # its type is a line of its own
        keys = [choice["required"] for choice in error.validator_value]
        choices = " | ".join(" + ".join(required) for required in keys)
        got = ", ".join(key for key in found if any(key in required for required in keys)) or "none"
        return [f"{place}: needs {'exactly' if error.validator == 'oneOf' else 'at least'} one of {choices}; got {got}"]
    text = f"{place}: {shorten(error.message)}"
    if error.validator == "type" and isinstance(found, str):
        if "string" in error.validator_value:
            text = f"{place}: {shorten(repr(found))} {text_problem(found)}"
        elif _is_number(found):
            text += ": write it without quotes and with a point, 0.001 or 1.0e-3"
    elif error.validator == "enum":
        text += f"; {_nearest(found, error.validator_value)}".rstrip("; ")
    elif error.validator == "pattern" and (words := re.fullmatch(r"\^\(([\w|]+)\)\$", error.validator_value)):
        text += f"; {_nearest(found, words[1].split('|'))}".rstrip("; ")
    elif error.validator == "type" and isinstance(found, float) and not math.isfinite(found):
        text = f"{place}: {found} is not a finite number"
    elif error.validator_value == "string" and not isinstance(found, (dict, list)):
        text += ": put it in quotes, for YAML reads some names as numbers, dates, yes and no, or nothing"
    return [text + (f" ({rule['description']})" if "description" in rule else "")]


def _nearest(word: object, known: Iterable[object]) -> str:
    """Ask whether the known word was meant that is most like this one, if one is."""
    names = {each.lower(): each for each in known if isinstance(each, str)}
    found = difflib.get_close_matches(word.lower(), names) if isinstance(word, str) else []
    return f"did you mean {names[found[0]]!r}? " if found else ""


def _homes(key: object, root: dict) -> str:
    """Say in which sections a key is known that is unknown where it stands, as one that is indented wrongly."""
    found, left = [], [("", root)]
    while left:
        path, each = left.pop(0)
        each = root["$defs"][each["$ref"].rpartition("/")[2]] if "$ref" in each else each
        properties = each.get("properties", {})
        found += [path or "the config itself"] if key in properties else []
        left += [(f"{path}.{name}".lstrip("."), inner) for name, inner in properties.items()]
        if isinstance(each.get("additionalProperties"), dict):
            left.append((f"{path}.<name>", each["additionalProperties"]))
    return f"it is a key of {', '.join(found[:3])}; " if found else ""


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
