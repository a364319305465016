"""Time what prepares an image set on two cores, its sheet with hashes and its decoded shards, and write a page of it.

    PYTHONPATH=scripts python tests/bench/images.py

The source images are made, JPEGs with the spectrum of natural ones, as large as Broden's or as ImageNet's. So are the
label maps, of half the size of Broden's source images: the first as ragged as its colors, the others of regions as
people draw them. A set of Broden's size is not written; its time is scaled from the source images that are.
"""

import argparse
import contextlib
import io
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import measure
import numpy as np
import table
from PIL import Image
from unitlens.images import datasets, label_maps
from unitlens.images.decode import decode_images
from unitlens.storage.arrays import write_arrays

PAGE = Path(__file__).parents[2] / "docs/benchmarks/images.md"
CORES = 2
BRODEN = 63_305  # source images
SHEET = 120  # seconds that the sheet of such a set may take
DECODED = 400  # source images a second that shards must reach
GEOMETRY = {"fit": "short", "resize": 256, "crop": 224, "interpolation": "bilinear"}
WORST = "no set: six maps everywhere"
CASES = [  # width, height, label maps of the source images in turn, and what it stands for
    (500, 375, [0], "ImageNet"),
    (224, 224, [0], "Broden, without label maps"),
    (224, 224, [1] + 7 * [2] + 4 * [6], "Broden: one map (textures), two, or six (with parts)"),
    (224, 224, [6], WORST),
]


def write(folder: Path, n: int, width: int, height: int, maps: Sequence[int]) -> list[dict[str, str]]:
    """Write `n` source images with amplitudes that fall as 1 / frequency, and label maps; give their rows."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[: width // 2 + 1])[..., None]
    frequency[0, 0] = 1
    rows = []
    for number in range(n):
        rng, name = np.random.default_rng(number), f"{number:06d}"
        noise = np.fft.rfft2(rng.normal(size=(height, width, 3)), axes=(0, 1)) / frequency
        image = np.fft.irfft2(noise, s=(height, width), axes=(0, 1))
        image = 128 + 45 * image / image.std()
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{name}.jpg", quality=90)
        colors = (image[::2, ::2, 0] // 32).clip(0, 7).astype(np.uint16) + 1
        count = maps[number % len(maps)]
        labels = [colors, *(regions(rng, colors.shape) for _ in range(count - 1))][:count]
        for layer, label in enumerate(labels):
            red_and_green = np.stack([label % 256, label // 256, 0 * label], axis=-1).astype(np.uint8)
            Image.fromarray(red_and_green).save(folder / f"{name}_{layer}.png")
        mask = ";".join(f"{name}_{layer}.png" for layer in range(count))
        rows.append({"image_id": name, "path": f"{name}.jpg", "mask": mask})
    return rows


def regions(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Draw a map of twelve labels with smooth borders."""
    coarse = rng.normal(size=(12, 8, 8)).astype(np.float32)
    smooth = np.stack([np.asarray(Image.fromarray(each).resize(shape[::-1], Image.BILINEAR)) for each in coarse])
    return (smooth.argmax(0) * 91).astype(np.uint16)  # labels up to 1001, as Broden's 1197


def decode(folder: Path, rows: list[dict[str, str]], output: Path) -> float:
    """Do what the job of one shard does, and give its seconds of CPU time."""
    start = time.process_time()
    images, _, _, _ = decode_images(rows, folder, GEOMETRY)
    write_arrays(output, {"images": images, **label_maps.read_label_maps(rows, folder, GEOMETRY)[0]}, {})
    return time.process_time() - start


def rates(folder: Path, rows: list[dict[str, str]]) -> tuple[float, float]:
    """Decode all rows, a shard a core; give source images a second by the clock and by CPU time."""
    with ProcessPoolExecutor(CORES) as pool:
        list(pool.map(len, [[]] * CORES))  # processes are up
        start = time.perf_counter()
        jobs = [pool.submit(decode, folder, rows[core::CORES], folder / f"{core}.h5") for core in range(CORES)]
        cpu = sum(job.result() for job in jobs)
        return len(rows) / (time.perf_counter() - start), CORES * len(rows) / cpu


def sheet_seconds(folder: Path, rows: list[dict[str, str]]) -> float:
    """Write the sheet of a folder, and scale the seconds to Broden's size."""
    sheet = folder / "sheet.csv"
    sheet.write_text("\n".join(["image_id,path", *(f"{row['image_id']},{row['path']}" for row in rows)]) + "\n")
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        datasets.write_sheet(folder / "out.csv", folder, sheet=sheet, kind="image_folder", size=None)
    return (time.perf_counter() - start) * BRODEN / len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--output", type=Path, default=PAGE)
    options = parser.parse_args()
    shards, seconds = [], 0.0
    for width, height, maps, example in CASES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            rows = write(folder, options.images, width, height, maps)
            seconds = max(seconds, sheet_seconds(folder, rows))
            wall, cpu = rates(folder, rows)
            size = sum(path.stat().st_size for path in folder.glob("*.h5")) / len(rows) / 1000
        target = [f"≥ {DECODED}", "yes" if cpu >= DECODED else "**no**"] if example != WORST else [None, None]
        shards.append([f"{width} x {height}", f"{sum(maps) / len(maps):.2g}", example, wall, cpu, *target, size])
        print(shards[-1], flush=True)
    options.output.write_text(
        TEXT.format(
            machine=measure.machine("cpu"),
            images=options.images,
            sheet=table.number(seconds),
            shards=table.markdown(COLUMNS, shards),
        ),
        encoding="utf-8",
    )
    print(f"wrote {options.output}")


COLUMNS = ["pixels", "label maps", "as in", "by the clock", "by CPU time", "to reach", "met", "kB a source image"]
TEXT = f"""# Benchmarks of image sets

Written by `make bench` on: {{machine}}.

## Decoded shards

{{shards}}
Source images a second on {CORES} cores, from {{images}} made ones: what a job of `decode_images` does without the start
of Python, a shard a core. "By CPU time" is what {CORES} cores do that nothing else uses, and is held against the
target; where the clock says less, other work had the cores too. "Label maps" is their mean number; the mix for Broden
is assumed from its description. Images are {GEOMETRY["crop"]} x {GEOMETRY["crop"]} and not compressed, label maps
are.

## Sheet with hashes

{{sheet}} s for {BRODEN:,} source images, scaled from {{images}}, files in the page cache; to reach: < {SHEET} s.
"""


if __name__ == "__main__":
    main()
