"""Write measured times and memory as a Markdown page and a plot. Nothing is measured here, and nothing estimated."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure
from unitlens.report import charts

NOT_MEASURED = "not measured"


class Time(NamedTuple):
    """Median seconds an image of one explainer, None where there is nothing to compare with."""

    explainer: str
    ours: float
    reference: float | None
    limit: float | None

    @property
    def against_reference(self) -> float | None:
        return self.reference and self.reference / self.ours

    @property
    def against_limit(self) -> float | None:
        return self.limit and self.ours / self.limit


class Target(NamedTuple):
    """A ratio to reach: at least, or at most, `bound`. It is measured under `key` on a machine of the kind `where`."""

    what: str
    ratio: str
    key: tuple[str, str]
    where: str
    at_least: float | None = None
    at_most: float | None = None


_LIME = "LIME, 1000 samples with superpixels, ResNet-18, {}"
_AS_EXACT = "LIME, {}, 667 balanced samples against 1000 of `lime`, about as exact, ResNet-18, 2 CPU cores"
_SPEED = "speed, reference / ours"
_FORWARD = "time, ours / forward passes"
_MEMORY = "peak device memory, ours / forward pass, ResNet-50, same batch"
TARGETS = [
    Target(_LIME.format("2 CPU cores, float32"), _SPEED, ("LIME", "reference"), "cpu", at_least=1.1),
    Target(_LIME.format("2 CPU cores, bfloat16"), _SPEED, ("LIME, bfloat16", "reference"), "cpu", at_least=1.8),
    Target(_LIME.format("2 CPU cores, float32"), _FORWARD, ("LIME", "limit"), "cpu", at_most=1.15),
    Target(_LIME.format("2 CPU cores, bfloat16"), _FORWARD, ("LIME, bfloat16", "limit"), "cpu", at_most=1.15),
    Target(_AS_EXACT.format("float32"), _SPEED, ("LIME, balanced", "reference"), "cpu", at_least=2.5),
    Target(_AS_EXACT.format("bfloat16"), _SPEED, ("LIME, balanced, bfloat16", "reference"), "cpu", at_least=4),
    Target("Ablation-CAM, last block, 2 CPU cores", _SPEED, ("Ablation-CAM", "reference"), "cpu", at_least=200),
    Target(
        "Account by 512 units, one image, 2 CPU cores",
        "time, account / Grad-CAM",
        ("account", "Grad-CAM"),
        "cpu",
        at_most=1.3,
    ),
    Target(_LIME.format("H100, TF32, shards of 32"), _SPEED, ("LIME", "reference"), "H100", at_least=50),
    Target(_LIME.format("H100, TF32, shards of 32"), _FORWARD, ("LIME", "limit"), "H100", at_most=1.5),
    Target("Ablation-CAM, last block, H100", _SPEED, ("Ablation-CAM", "reference"), "H100", at_least=40),
    Target("Score-CAM, H100", _SPEED, ("Score-CAM", "reference"), "H100", at_least=4),
    Target("Score-CAM, H100", _FORWARD, ("Score-CAM", "limit"), "H100", at_most=1.3),
    Target("Grad-CAM, batch of 64, H100", _SPEED, ("Grad-CAM", "reference"), "H100", at_least=5),
    Target("Grad-CAM, batch of 64, H100", f"{_FORWARD} and backward", ("Grad-CAM", "limit"), "H100", at_most=1.5),
    Target("Score-CAM, H100", _MEMORY, ("Score-CAM", "memory"), "H100", at_most=1.3),
    Target("LIME, H100", _MEMORY, ("LIME", "memory"), "H100", at_most=1.3),
]


def targets(measured: Mapping[tuple[str, str], float], where: str) -> str:
    """Compare ratios, by key, with the `TARGETS` of the machine `where`; what is missing is not measured."""
    rows = []
    for target in (target for target in TARGETS if target.where == where):
        value = measured.get(target.key)
        if target.at_least is not None:
            bound, met = f"≥ {target.at_least:g}", value is not None and value >= target.at_least
        else:
            bound, met = f"≤ {target.at_most:g}", value is not None and value <= target.at_most
        verdict = NOT_MEASURED if value is None else "yes" if met else "**no**"
        rows.append([target.what, target.ratio, bound, NOT_MEASURED if value is None else number(value), verdict])
    return markdown(["what", "ratio", "to reach", "measured", "met"], rows)


def ratios(times: Sequence[Time]) -> dict[tuple[str, str], float]:
    """Return the ratios that targets are about: (explainer, "reference" or "limit") -> ratio."""
    pairs = {(time.explainer, "reference"): time.against_reference for time in times}
    pairs |= {(time.explainer, "limit"): time.against_limit for time in times}
    return {key: ratio for key, ratio in pairs.items() if ratio is not None}


def seconds(times: Sequence[Time]) -> str:
    """Tabulate seconds an image and their ratios."""
    header = ["explainer", "ours (s)", "reference (s)", "reference / ours", "limit (s)", "ours / limit"]
    rows = [[t.explainer, t.ours, t.reference, t.against_reference, t.limit, t.against_limit] for t in times]
    return markdown(header, rows)


def markdown(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a table; numbers are rounded and None is a dash."""
    lines = [header, ["---"] * len(header), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else number(value)


def number(value: float) -> str:
    """Round to four significant digits, or to a whole number from 1000."""
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


@matplotlib.rc_context(charts.STYLE)
def draw(times: Sequence[Time], path: Path, *, machine: str) -> None:
    """Draw how many times faster than its reference package each explainer is; the same input gives the same bytes."""
    times = [time for time in times if time.reference is not None]
    speeds = [time.against_reference for time in times]
    figure = Figure((7.2, 1.2 + 0.3 * len(times)), layout="constrained")
    panel = figure.subplots()
    bars = panel.barh(range(len(times)), speeds, height=0.6, color="#777777")
    panel.bar_label(bars, [f"{speed:.3g} ×" for speed in map(float, speeds)], padding=3)
    panel.set_yticks(range(len(times)), [time.explainer for time in times])
    panel.invert_yaxis()
    panel.axvline(1, color="#333333", linestyle="--", linewidth=1)
    panel.set_xscale("log")
    panel.set_xlim(min(*speeds, 1) / 1.5, max(speeds) * 3)
    panel.set_xlabel("seconds of the reference / seconds of Unitlens (log scale)")
    figure.suptitle(f"Speed against the reference packages, ResNet-18\n{machine}", x=0.01, ha="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata=charts.METADATA[".svg"])
