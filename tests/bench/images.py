"""Time what prepares an image set: its sheet with hashes, and its decoded shards, on two cores.

    PYTHONPATH=scripts python tests/bench/images.py

The photographs are made: JPEGs of 256 x 256 pixels with the spectrum of natural ones; Broden's are as small.
A set of Broden's size is not written; its time is scaled from the photographs that are.
"""

import argparse
import contextlib
import io
import platform
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from unitlens import image_sets, images, store

CORES = 2
BRODEN = 63_305  # photographs
GEOMETRY = {"fit": "short", "resize": 256, "crop": 224, "interpolation": "bilinear"}
MAPS = 6  # label maps of half the size for each photograph, as Broden has
GOALS = {"sheet": "at most 120 s", "decode": "at least 400"}


def write(folder: Path, n: int) -> None:
    """Write `n` photographs with amplitudes that fall as 1 / frequency, and one file of label maps for each."""
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256))[..., None]
    frequency[0, 0] = 1
    for number in range(n):
        noise = np.fft.rfft2(np.random.default_rng(number).normal(size=(256, 256, 3)), axes=(0, 1)) / frequency
        picture = np.fft.irfft2(noise, s=(256, 256), axes=(0, 1))
        picture = 128 + 45 * picture / picture.std()
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{number:06d}.jpg", quality=90)
        labels = (picture[::2, ::2] // 32).clip(0, 7).astype(np.uint8)
        labels[..., 2] = 0
        Image.fromarray(labels).save(folder / f"{number:06d}.png")


def decode(folder: Path, rows: list[dict[str, str]], output: Path) -> float:
    """Do what the job of one shard does, and give its seconds of CPU time."""
    start = time.process_time()
    pictures, _, _ = images.decode(rows, folder, GEOMETRY)
    store.create(output, {"images": pictures, **images.ground_truth(rows, folder, GEOMETRY)}, {})
    return time.process_time() - start


def rates(folder: Path, rows: list[dict[str, str]]) -> str:
    """Decode all rows, one shard a core; the CPU time tells what two cores do that nothing else uses."""
    with ProcessPoolExecutor(CORES) as pool:
        list(pool.map(len, [[]] * CORES))  # processes are up
        start = time.perf_counter()
        jobs = [pool.submit(decode, folder, rows[core::CORES], folder / f"{core}.h5") for core in range(CORES)]
        cpu = sum(job.result() for job in jobs)
        wall = time.perf_counter() - start
    return f"{len(rows) / wall:.0f} photographs/s; by CPU time {CORES * len(rows) / cpu:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    n = parser.parse_args().images
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "set")
        folder.mkdir()
        write(folder, n)
        sheet = Path(name, "sheet.csv")
        rows = [{"image_id": f"{number:06d}", "path": f"{number:06d}.jpg"} for number in range(n)]
        lines = ["image_id,path", *(f"{row['image_id']},{row['path']}" for row in rows)]
        sheet.write_text("\n".join(lines) + "\n")
        start = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):
            image_sets.write_sheet(Path(name, "out.csv"), folder, sheet=sheet, kind="image_folder", size=None)
        sheet_seconds = (time.perf_counter() - start) * BRODEN / n
        plain = rates(folder, rows)
        for row in rows:
            row["mask"] = ";".join([row["path"].replace(".jpg", ".png")] * MAPS)
        masked = rates(folder, rows)
    print(
        f"{n} photographs, {CORES} cores, {platform.processor() or platform.machine()}, Python {sys.version.split()[0]}"
    )
    print(f"sheet with hashes, scaled to {BRODEN} photographs: {sheet_seconds:.1f} s (goal: {GOALS['sheet']})")
    print(f"decoded shards: {plain} (goal: {GOALS['decode']})")
    print(f"decoded shards with {MAPS} label maps each: {masked}")


if __name__ == "__main__":
    main()
