"""The reference in config/README.md is made from the schema; run this file to write it again."""

from pathlib import Path

import yaml

CONFIG = Path(__file__).parents[2] / "config"
MARK = "<!-- made from schema.yaml by tests/workflow/test_config_reference.py -->\n"


def reference():
    schema = yaml.safe_load((CONFIG / "schema.yaml").read_text())
    lines = ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    for key, entry, required in walk(schema, schema, ""):
        default = "required" if required else f"`{entry['default']}`" if "default" in entry else ""
        cells = [f"`{key}`", value_of(entry), default, entry.get("description", "")]
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def walk(schema, entry, prefix):
    required = entry.get("required", [])
    for key, child in entry.get("properties", {}).items():
        child = resolve(schema, child)
        yield f"{prefix}{key}", child, key in required
        yield from walk(schema, child, f"{prefix}{key}.")
        if isinstance(child.get("additionalProperties"), dict):
            yield from walk(schema, resolve(schema, child["additionalProperties"]), f"{prefix}{key}.<name>.")
        if "items" in child and "properties" in child["items"]:
            yield from walk(schema, child["items"], f"{prefix}{key}[].")


def resolve(schema, entry):
    """Follow a reference; keys beside it win."""
    if "$ref" not in entry:
        return entry
    target = schema["$defs"][entry["$ref"].rpartition("/")[2]]
    return target | {key: value for key, value in entry.items() if key != "$ref"}


def value_of(entry):
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    if "items" in entry and "enum" in entry["items"]:
        return "list of " + ", ".join(f"`{value}`" for value in entry["items"]["enum"])
    kinds = entry.get("type", "")
    names = {"array": "list", "object": "section"}
    kind = " or ".join(names.get(each, each) for each in ([kinds] if isinstance(kinds, str) else kinds))
    items = entry.get("items", {})
    kinds = items.get("type", "")
    inner = f"{kinds}s" if isinstance(kinds, str) else " or ".join(kinds)
    between = f"{kind} of {inner}{limits(items)}" if limits(items) else kind
    return between + limits(entry)


def limits(entry):
    """The least and the greatest number, where there are such: from 1 to 1024, above 0 to 1."""
    least = f" from {entry['minimum']}" if "minimum" in entry else ""
    above = f" above {entry['exclusiveMinimum']}" if "exclusiveMinimum" in entry else ""
    most = f" to {entry['maximum']}" if "maximum" in entry else ""
    return least + above + most + (f" below {entry['exclusiveMaximum']}" if "exclusiveMaximum" in entry else "")


def test_the_reference_is_that_of_the_schema():
    assert (CONFIG / "README.md").read_text().partition(MARK)[2] == reference()


def test_every_key_has_a_meaning():
    schema = yaml.safe_load((CONFIG / "schema.yaml").read_text())
    assert [key for key, entry, _ in walk(schema, schema, "") if not entry.get("description")] == []


if __name__ == "__main__":
    head = (CONFIG / "README.md").read_text().partition(MARK)[0]
    (CONFIG / "README.md").write_text(head + MARK + reference())
