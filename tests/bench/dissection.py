"""Time the labelling of one layer at full size, with and without evidence, and write docs/benchmarks-dissection.md.

    make bench

Activations and features are random numbers, which is the worst case: the top images of the units are all different.
Every row is a process of its own that reads HDF5 shards as the workflow does.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import measure
import numpy as np
import table
import torch
from unitlens import dissect, evidence, store

DIMENSION = 512
SHARD = 8192
THREADS = 2
SECONDS, MEMORY = 60, 2000  # to stay below, of the labels of a layer (s) and of the process (MiB)


class Size(NamedTuple):
    """Of a layer and of what it is labelled with."""

    images: int = 63_300
    concepts: int = 20_000
    units: int = 512
    top_k: int = 100


FULL, HALF = Size(), Size(images=20_000, concepts=5_000, units=128, top_k=50)
WITH_EVIDENCE = "with evidence"
LABELS = "labels alone"


def main() -> None:
    """Read the options, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks-dissection.md"))
    parser.add_argument("--alone", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    if options.alone:
        print(json.dumps(measure_alone(*options.alone)))
        return
    rows = [
        measured("soft_wpmi", LABELS, FULL),
        measured("soft_wpmi", WITH_EVIDENCE, FULL),
        measured("wpmi", LABELS, FULL),
        measured("wpmi", WITH_EVIDENCE, FULL),
        measured("cos_similarity", LABELS, FULL),
        measured("cos_similarity_cubed", LABELS, FULL),
        measured("rank_reorder", LABELS, FULL._replace(units=8)),
    ]
    page = PAGE.format(
        machine=measure.machine("cpu"),
        torch=torch.__version__,
        targets=targets(rows),
        rows=table.markdown(["similarity", "what", "units", "seconds", "CPU seconds", "peak memory (MiB)"], rows),
        growth=growth(),
    )
    options.output.write_text(page, encoding="utf-8")
    print(f"wrote {options.output}")


def measured(similarity: str, what: str, size: Size) -> list[object]:
    """Measure one layer in a process of its own; return a row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        write_layer(Path(folder), size)
        found = measure.in_a_process(__file__, "--alone", folder, similarity, what, json.dumps(size))
    row = [similarity, what, str(size.units), found["seconds"], found["cpu"], found["peak"] / 2**20]
    print(row, flush=True)
    return row


def write_layer(folder: Path, size: Size) -> None:
    """Write random activations, image features in shards, and concepts, as the rules do."""
    rng = np.random.default_rng(0)
    shards = []
    for number, start in enumerate(range(0, size.images, SHARD)):
        ids = np.array([f"image{row}" for row in range(start, min(start + SHARD, size.images))], dtype=object)
        activations, features = (
            rng.standard_normal((len(ids), width), dtype=np.float32) for width in (size.units, DIMENSION)
        )
        shards.append(folder / f"activations-{number:05d}.h5")
        store.create(shards[-1], {"activations": activations, "image_id": ids}, {})
        store.create(folder / f"images-{number:05d}.h5", {"features": features, "image_id": ids, "photograph": ids}, {})
    store.index(folder / "activations.h5", shards)
    words = np.array([f"word{number}" for number in range(size.concepts)], dtype=object)
    features = rng.standard_normal((size.concepts, DIMENSION), dtype=np.float32)
    store.create(folder / "concepts.h5", {"features": features, "word": words, "category": words}, {})


def measure_alone(folder: str, similarity: str, what: str, size: str) -> dict[str, float]:
    """Read a layer and label it; return the seconds of the labelling and the peak memory of this process in bytes."""
    activations, _ = store.read(Path(folder) / "activations.h5")
    images, _ = store.concatenate(sorted(Path(folder).glob("images-*.h5")))
    concepts, _ = store.read(Path(folder) / "concepts.h5")
    start, cpu = time.perf_counter(), time.process_time()
    if what == LABELS:
        dissect.label_table(activations, images, concepts, similarity=similarity, encoders=("", ""))
    elif what == WITH_EVIDENCE:
        evidence.label_table(activations, images, concepts, similarity=similarity, encoders=("", ""), seed=0)
    else:
        parts = (activations["activations"], images["features"], concepts["features"])
        dissect.soft_wpmi(*map(torch.as_tensor, parts), top_k=Size(*json.loads(size)).top_k)
    return {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu, "peak": measure.status("VmHWM")}


def growth() -> str:
    """Tabulate the time of soft_wpmi at twice and four times the units, concepts, top images and images."""
    rows = []
    for name in Size._fields:
        seconds = []
        for factor in (1, 2, 4):
            size = HALF._replace(**{name: factor * getattr(HALF, name)})
            seconds.append(measured("soft_wpmi", "scores", size)[4])
        rows.append([name.replace("_", " "), str(getattr(HALF, name)), *seconds, seconds[2] / seconds[0]])
    return table.markdown(["what grows", "from", "x 1", "x 2", "x 4", "x 4 / x 1"], rows)


def targets(rows: list[list[object]]) -> str:
    """Compare the rows of soft_wpmi with what is to be reached."""
    labels, with_evidence = rows[:2]
    facts = [
        ["labels alone, soft_wpmi", "seconds", SECONDS, labels[3]],
        ["labels alone, soft_wpmi", "peak memory (MiB)", MEMORY, labels[5]],
        ["with evidence, soft_wpmi", "peak memory (MiB)", MEMORY, with_evidence[5]],
    ]
    checked = [
        [what, unit, f"< {bound}", table.number(value), "yes" if value < bound else "**no**"]
        for what, unit, bound, value in facts
    ]
    extra = with_evidence[3] - labels[3]
    checked.append(["what evidence adds, soft_wpmi", "seconds", "–", table.number(extra), "–"])
    return table.markdown(["what", "measure", "to reach", "measured", "met"], checked)


PAGE = f"""# Benchmarks of the dissection

Written by `make bench` on: {{machine}}, torch {{torch}}.

One layer of {FULL.units} units, {FULL.images:,} images x {FULL.concepts:,} concepts x {DIMENSION} dimensions, of
random numbers: the worst case, for the units share no top images. Every row is one run in a process of its own, which
reads the features from HDF5 shards; the seconds are those of the library's call, "CPU seconds" those of all its threads
together, the memory is all that the process ever held, Python and torch included. Where the CPU seconds are not nearly
{THREADS} x the seconds, other work had the processors too.

## Targets

{{targets}}
## One layer

{{rows}}
Evidence is that of the default configuration: 200 resamples, 10,000 draws, both halves. Of `rank_reorder` every unit
sorts a twentieth of the images by every concept; its time grows with the units, so {FULL.units} units take
{FULL.units // 8} times as long. Evidence for `cos_similarity`, `cos_similarity_cubed` and `rank_reorder` costs a
labelling of the layer for every resample, and one for as many draws as there are units.

## Growth of soft_wpmi

{{growth}}
CPU seconds, one quantity at a time, from {HALF.images:,} images, {HALF.concepts:,} concepts, {HALF.units} units and
{HALF.top_k} top images.
"""


if __name__ == "__main__":
    main()
