"""Plan, decode, store and read back hundreds of thousands of images, and write docs/benchmarks/scale.md.

    make bench
    python tests/bench/scale.py --plan 50000 4096     # one plan: jobs, CPU seconds and peak memory as JSON

Sheets are synthetic, and a few source images stand for many; every row of the page is a process of its own.
"""

import argparse
import contextlib
import io
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import measure
import yaml

# Imports that planning does not need are inside functions: the memory of a plan is Snakemake's alone.

ROOT = Path(__file__).parents[2]
MODELS, LAYERS = 3, 4
GEOMETRY = {"fit": "squash", "resize": 64, "crop": 64, "interpolation": "bilinear"}
SHARD, UNITS, BATCH = 4096, 512, 64
SOURCE_IMAGES = 500  # files; the rows of a sheet name them over and over
SMALL, LARGE = 25_000, 100_000
PICTURES = 1024  # of 224 x 224, for the table of HDF5 settings
PLANS = [(SMALL, SHARD), (50_000, SHARD), (LARGE, SHARD), (1_000_000, 8192)]
EXPLAINED, WIDTH, CLASSES = 50_000, 2048, 1000  # images, units and classes of accounts
TABULATE, MOST_MB = 600, 4096  # CPU seconds, five minutes of two cores, and MiB
BOUNDS = {50_000: (10, 300, 500), 1_000_000: (60, None, None)}  # CPU seconds, MiB, jobs
GROWTH, FLAT, PARSE = 4.2, 1.15, 0.2  # times the CPU seconds and the memory from SMALL to LARGE; seconds


def main() -> None:
    """Read the options, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/scale.md"))
    parser.add_argument("--plan", nargs=2, type=int, metavar=("IMAGES", "SHARD_SIZE"))
    parser.add_argument("--alone", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        name, *arguments = options.alone
        found = ALONE[name](*arguments) or {}
        print(json.dumps({"cpu": time.process_time(), "peak": measure.status("VmHWM") / 2**20, **found}))
    elif options.plan:
        print(json.dumps(measured_plan(*options.plan)))
    else:
        write(options.output.absolute())


def write(output: Path) -> None:
    """Measure everything and write the page."""
    import table

    plans = [(images, size, measured_plan(images, size)) for images, size in PLANS]
    steps = {images: measured_steps(images) for images in (SMALL, LARGE)}
    with tempfile.TemporaryDirectory() as folder:
        write_project(Path(folder), 50_000, SHARD)
        parse = sorted((measured("parse", folder) for _ in range(5)), key=lambda each: each["whole"])[2]  # the median
        hdf5 = measured("settings", folder)["rows"]
        measured("account", folder)
        tabulated = measured("classes", folder)
    plan_rows = [
        [f"{images:,}", str(size), str(each["jobs"]), each["seconds"], each["cpu"], each["peak"]]
        for images, size, each in plans
    ]
    step_rows = []
    for name, small in steps[SMALL].items():
        large = steps[LARGE][name]
        step_rows.append([name, small["cpu"], large["cpu"], large["cpu"] / small["cpu"], small["peak"], large["peak"]])
    flat = max(steps[LARGE][name]["peak"] / steps[SMALL][name]["peak"] for name in STEPS)
    total = [sum(each["cpu"] for each in steps[images].values()) for images in (SMALL, LARGE)]
    step_rows.append(["all", *total, total[1] / total[0], None, None])
    planned = {images: each["cpu"] for images, _, each in plans}
    step_rows.append(["plan", planned[SMALL], planned[LARGE], planned[LARGE] / planned[SMALL], None, None])
    checks = [
        *plan_checks(plans),
        [f"classes of {EXPLAINED:,} images x {WIDTH} units", "CPU seconds", TABULATE, tabulated["cpu"]],
        ["the same", "peak memory (MiB)", MOST_MB, tabulated["peak"]],
        ["parsing inside a job, 50,000 images", "CPU seconds", PARSE, parse["whole"]],
        [
            f"decode, store and read, {SMALL:,} to {LARGE:,}",
            "times the CPU seconds",
            GROWTH,
            total[1] / total[0],
        ],
        ["the same, the step that grows most", "times the peak memory", FLAT, flat],
    ]
    page = PAGE.format(
        machine=measure.machine("cpu"),
        targets=table.markdown(
            ["what", "measure", "to reach", "measured", "met"],
            [[*each[:2], f"≤ {each[2]}", each[3], "yes" if each[3] <= each[2] else "**no**"] for each in checks],
        ),
        plans=table.markdown(["images", "shard", "jobs", "seconds", "CPU seconds", "peak memory (MiB)"], plan_rows),
        parse=table.markdown(
            ["part", "CPU seconds"],
            [[part, parse[part]] for part in ("whole", "Snakemake's translation to Python")],
        ),
        steps=table.markdown(
            [
                *["step", f"{SMALL:,}: CPU seconds", f"{LARGE:,}: CPU seconds", "times"],
                *[f"{SMALL:,}: peak memory (MiB)", f"{LARGE:,}: peak memory (MiB)"],
            ],
            step_rows,
        ),
        settings=table.markdown(
            ["rows", "chunk", "filters", "size / raw", "written", "read in order", "read at random"], hdf5
        ),
    )
    output.write_text(page, encoding="utf-8")
    print(f"wrote {output}")


def plan_checks(plans: list[tuple[int, int, dict]]) -> list[list[object]]:
    """Compare plans with their bounds: seconds of the one thread that plans, memory, jobs."""
    return [
        [f"plan of {images:,} images, {MODELS} models x {LAYERS} layers", what, bound, found[key]]
        for images, _, found in plans
        if images in BOUNDS
        for what, key, bound in zip(
            ("CPU seconds", "peak memory (MiB)", "jobs"), ("cpu", "peak", "jobs"), BOUNDS[images], strict=True
        )
        if bound
    ]


def measured(name: str, *arguments: str) -> dict:
    """Measure one thing in a process of its own."""
    start = time.perf_counter()
    found = measure.in_a_process(__file__, "--alone", name, *arguments)
    found["seconds"] = time.perf_counter() - start
    print(name, *arguments, {key: value for key, value in found.items() if key != "rows"}, file=sys.stderr, flush=True)
    return found


# ---- plans


def measured_plan(images: int, shard_size: int) -> dict:
    """Plan a run of so many images in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        write_project(Path(folder), images, shard_size)
        return measured("plan", folder)


def write_project(folder: Path, images: int, shard_size: int) -> None:
    """Link to the workflow, as `make new` does, and write a sheet and a config of so many images."""
    for name in ("Snakefile", "rules", "scripts", "envs", "report", "profiles", "config"):
        (folder / name).symlink_to(ROOT / name)
    settings = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    model = next(iter(settings["models"].values())) | {"layers": [f"layer{number}" for number in range(1, LAYERS + 1)]}
    settings["models"] = {
        f"model{number}": model | {"weights": {"torchvision": f"A.V{number}"}} for number in range(1, MODELS + 1)
    }
    settings["images"]["probe"] |= {"sheet": "sheet.csv", "shard_size": shard_size}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    rows = "".join(f"photo_{number:07d},{number % SOURCE_IMAGES:06d}.jpg\n" for number in range(images))
    (folder / "sheet.csv").write_text("image_id,path\n" + rows)


def run_snakemake(folder: str, *arguments: str) -> str:
    """Run Snakemake in this process; return what it printed."""
    from snakemake.cli import main

    os.chdir(folder)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            main([*arguments, "--configfile", "config.yaml", "--dry-run", "--quiet", "rules"])
        except SystemExit as end:
            if end.code:
                raise RuntimeError(printed.getvalue()) from end
    return printed.getvalue()


def plan(folder: str) -> dict:
    """Count the jobs of everything."""
    return {"jobs": int(re.search(r"^total +(\d+)$", run_snakemake(folder), re.MULTILINE)[1])}


def parse(folder: str) -> dict:
    """Plan one job as the job itself does, and time the reading of the Snakefile and of the rules."""
    import smart_open  # noqa: F401 (Snakemake loads it at the first line of any Snakefile)
    import snakemake.cli  # the first: the others import each other
    import snakemake.workflow

    seconds, running = {}, set()

    def timed(module: object, name: str) -> None:
        function = getattr(module, name)

        def timed_function(*arguments: object, **options: object) -> object:
            if name in running:  # the Snakefile includes the rules
                return function(*arguments, **options)
            running.add(name)
            start = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                seconds[name] = seconds.get(name, 0) + time.process_time() - start
                running.remove(name)

        setattr(module, name, timed_function)

    timed(snakemake.workflow.Workflow, "include")
    timed(snakemake.workflow, "parse")
    target = "results/images/probe/squash256-crop227-bilinear/00000.h5"
    run_snakemake(folder, target, "--mode", "remote")
    return {"whole": seconds["include"], "Snakemake's translation to Python": seconds["parse"]}


# ---- images


def measured_steps(images: int) -> dict[str, dict]:
    """Decode, store and read so many images, each step in a process."""
    from images import write as write_source_images

    with tempfile.TemporaryDirectory() as folder:
        write_project(Path(folder), images, SHARD)
        (Path(folder) / "source_images").mkdir()
        write_source_images(Path(folder) / "source_images", SOURCE_IMAGES, 256, 256, maps=[0])
        return {name: measured(name, folder, str(images)) for name in STEPS}


def decode(folder: str, images: str) -> None:
    """Decode all as one shard, block by block, as `decode_images` does."""
    from unitlens.images.decode import Found, decode_blocks
    from unitlens.jobs.sheets import read_rows
    from unitlens.storage.arrays import create_arrays

    rows = read_rows(Path(folder, "sheet.csv"), 0, int(images))
    with create_arrays(Path(folder, "images/00000.h5"), len(rows), {}) as add:
        for pixels in decode_blocks(rows, Path(folder, "source_images"), GEOMETRY, Found()):
            add(images=pixels)
        add(image_id=[row["image_id"] for row in rows])


def extract(folder: str, images: str) -> None:
    """Read the shard in batches and write as many activations, pixels instead of a network's."""
    import numpy as np
    from unitlens.storage.arrays import create_arrays, open_arrays, read_batches, read_dataset

    target = Path(folder, "activations/00000.h5")
    with open_arrays(Path(folder, "images/00000.h5")) as file, create_arrays(target, int(images), {}) as add:
        for batch in read_batches(file["images"], BATCH):
            add(activations=batch.reshape(len(batch), -1)[:, :UNITS].astype(np.float32))
        add(image_id=read_dataset(file["image_id"]))


def read(folder: str, images: str) -> None:
    """Read all activations in batches."""
    from unitlens.storage.shards import read_blocks

    blocks = read_blocks(sorted(Path(folder, "activations").iterdir()), ["activations"], BATCH)
    assert sum(len(block["activations"]) for block in blocks) == int(images)


# ---- classes


def account(folder: str) -> None:
    """Write accounts of random units for `EXPLAINED` images of as many classes, in shards."""
    import numpy as np
    from unitlens.storage.arrays import write_arrays

    rng = np.random.default_rng(0)
    weights = rng.standard_normal((CLASSES, WIDTH), dtype=np.float32)
    for start in range(0, EXPLAINED, SHARD):
        ids = np.array([f"image_{row:06d}" for row in range(start, min(start + SHARD, EXPLAINED))], dtype=object)
        target, nothing = rng.integers(0, CLASSES, len(ids)), np.zeros(len(ids))
        values = np.maximum(rng.standard_normal((len(ids), WIDTH), dtype=np.float32), 0) * weights[target]
        arrays = {"contributions": values, "tokens": nothing, "remainder": nothing, "score": values.sum(1)}
        arrays |= {"target": target, "image_id": ids, "source_image": ids}
        write_arrays(Path(folder, "accounts", f"{start:07d}.h5"), arrays, {"model": "net", "layer": "4"})


def classes(folder: str) -> None:
    """Tabulate the classes of these accounts, a third of whose units have one of 300 names."""
    import pandas as pd
    from unitlens.tables import classes

    named = [unit % 3 == 0 for unit in range(WIDTH)]
    names = pd.DataFrame({"model": "net", "layer": "4", "unit": range(WIDTH)})
    names["name"] = [f"word {unit % 300}" if has else "" for unit, has in enumerate(named)]
    names["status"] = ["named" if has else "selective" for has in named]
    classes.of_models(sorted(Path(folder, "accounts").iterdir()), names, {"net": CLASSES})


# ---- HDF5


def settings(folder: str) -> dict:
    """Write and read images, activations and masks with several chunks and filters."""
    import numpy as np
    from images import write as write_source_images
    from unitlens.images.decode import decode_images

    source_images = Path(folder, "source_images")
    source_images.mkdir()
    write_source_images(source_images, SOURCE_IMAGES, 256, 256, maps=[0])
    named = [{"image_id": str(row), "path": f"{row % SOURCE_IMAGES:06d}.jpg"} for row in range(PICTURES)]
    images, _, _, _ = decode_images(named, source_images, GEOMETRY | {"resize": 224, "crop": 224})
    noise = np.random.default_rng(0).standard_normal((50_000, UNITS), dtype=np.float32)
    arrays = {"images": images, "activations": np.maximum(noise, 0), "masks": images[..., 0] > 128}
    rows = []
    for name, array in arrays.items():
        for size in (2**16, 2**20, 2**23):
            rows.append([name, *one_setting(Path(folder, "test.h5"), array, size, {"fletcher32": True})])
        for filters in ({}, {"compression": "lzf", "fletcher32": True}, {"compression": "gzip", "fletcher32": True}):
            options = filters | ({"compression_opts": 1} if filters.get("compression") == "gzip" else {})
            rows.append([name, *one_setting(Path(folder, "test.h5"), array, 2**20, options)])
    return {"rows": rows}


def one_setting(path: Path, array: object, chunk: int, filters: dict) -> list[object]:
    """Write an array and read it; return the setting, its size and rows a second of CPU time, the best of three."""
    import h5py
    import numpy as np

    rows = max(1, min(len(array), chunk // array[0].nbytes))
    picked = np.sort(np.random.default_rng(0).choice(len(array), len(array) // 16, replace=False))

    def write() -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("array", data=array, chunks=(rows, *array.shape[1:]), **filters)

    def in_order() -> None:
        with h5py.File(path, rdcc_nbytes=2**20) as file:
            for start in range(0, len(array), BATCH):
                file["array"][start : start + BATCH]

    def at_random() -> None:
        with h5py.File(path, rdcc_nbytes=2**20) as file:
            for start in range(0, len(picked), BATCH):
                file["array"][picked[start : start + BATCH]]

    rates = [len(array) / best(write), len(array) / best(in_order), len(picked) / best(at_random)]
    written = path.stat().st_size / array.nbytes
    return [f"{chunk // 1024} KiB", name_filters(filters), written, *rates]


def name_filters(filters: dict) -> str:
    names = {"fletcher32": "checksum", "compression": filters.get("compression")}
    return ", ".join(names[key] for key in filters if key in names) or "none"


def best(work: Callable[[], None]) -> float:
    """Time a call three times; return the fewest seconds of CPU time."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


STEPS = {"decode": decode, "extract": extract, "read": read}
ALONE = STEPS | {"account": account, "classes": classes, "plan": plan, "parse": parse, "settings": settings}


PAGE = f"""# Benchmarks at scale

Written by `make bench` on: {{machine}}. CPU seconds are those of one process with its start and its imports; where they
are not nearly the seconds, other work had the processors too.

## Targets

{{targets}}
## Plans

`snakemake -n` of the demonstration with {MODELS} models of {LAYERS} layers each and a sheet of so many source images to
label with, the checks of every row included.

{{plans}}
A job on the cluster reads the Snakefile and the rules again, but checks no sheet. With 50,000 images that takes:

{{parse}}
## Decoded images and activations

{SOURCE_IMAGES} source images of 256 x 256 pixels, named over and over by the sheet, are decoded to 64 x 64, and {UNITS}
activations each are taken from the pixels. All are one shard, so what is measured is the memory of a job.

{{steps}}
## Chunks and filters

Rows a second of CPU time, the best of three, in batches of {BATCH}: {PICTURES} images of 224 x 224 x 3 bytes, 50,000
rows of {UNITS} activations of which half are zero, {PICTURES} masks of 224 x 224. At random: a sixteenth of the rows,
ascending. The cache of an open dataset is 1024 KiB, as the store sets it. The store takes chunks of 1024 KiB and the
checksum for all, and gzip for masks and text.

{{settings}}"""


if __name__ == "__main__":
    main()
