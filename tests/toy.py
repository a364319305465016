"""A miniature of all that the workflow takes from outside: networks, checkpoints, source images, concepts, a config.

It is uneven on purpose, since uniform inputs hide whole classes of faults: last shards are short, superpixels differ in
number, masks, boxes and labels are in some rows only, one image is black and one broken, names look like numbers or
hold what CSV, HTML and figures take for their own, and no unit deserves a label.

Put `tests` on PYTHONPATH and the networks are the architectures `toy:network`, `toy:numbered_network` and
`toy:imagenet_network`.
"""

import csv
import io
import json
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn

CLASSES = ["$quare, $mall", "disc <b>", "Kreuz & Gewölbe", "1.10", "null"]
SIZE = 32  # pixels a side of the networks' input
CONCEPTS = [("red", "color"), ("größer, $x$", "color"), ("null", "color"), ("4", "1.10"), ("=1+1", "1.10")]
MASK_WORDS = [("1", "null", "4"), ("2", "<frame>", "4")]
SHEET_COLUMNS = ["image_id", "path", "label", "mask", "crop", "box", "superpixels"]
PREPROCESSING = {
    "fit": "squash",
    "resize": 36,
    "crop": SIZE,
    "interpolation": "bilinear",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
}


def network(classes=5):
    """Two convolutions, global average pooling, one linear layer; untrained."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 6, 3, stride=2, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(6, 8, 3, stride=2, padding=1),
            relu2=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            head=nn.Linear(8, classes),
        )
    )


def numbered_network(classes=5):
    """The same with layers that are called like numbers, "1.10" and "4"."""
    inner = OrderedDict({"9": nn.Conv2d(3, 6, 3, stride=2, padding=1), "10": nn.ReLU()})
    outer = {"1": nn.Sequential(inner), "3": nn.Conv2d(6, 8, 3, stride=2, padding=1), "4": nn.ReLU()}
    pool = {"5": nn.AdaptiveAvgPool2d(1), "6": nn.Flatten(), "head": nn.Linear(8, classes)}
    return nn.Sequential(OrderedDict(outer | pool))


def imagenet_network():
    """The same with ImageNet's 1000 outputs, for the ConSE encoder."""
    return network(classes=1000)


def save_checkpoint(path, build=network, *, seed=0):
    """Save random weights that depend on `seed` alone; the head is scaled up so that predictions differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = build().state_dict()
    state["head.weight"] *= 20
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)


def write_source_images(folder, n, *, start=0):
    """Write `n` PNG files, 48 x 40, each a colored shape on noise, and return their sheet rows."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(start, start + n):
        rng = np.random.default_rng(number)
        image = Image.fromarray(rng.integers(0, 80, (40, 48, 3), dtype=np.uint8))
        draw, shape = ImageDraw.Draw(image), number % len(CLASSES)
        color = tuple(int(value) for value in rng.integers(100, 256, 3))
        left, top = int(rng.integers(2, 24)), int(rng.integers(2, 16))
        box = (left, top, left + 20, top + 20)
        if shape == 0:
            draw.rectangle(box, fill=color)
        elif shape == 1:
            draw.ellipse(box, fill=color)
        elif shape == 2:
            draw.line(box, fill=color, width=5)
            draw.line((left, top + 20, left + 20, top), fill=color, width=5)
        elif shape == 3:
            for offset in range(0, 21, 5):
                draw.line((left, top + offset, left + 20, top + offset), fill=color, width=2)
        else:
            draw.rectangle(box, outline=color, width=4)
        name = f"toy_{number:02d}"
        image.save(Path(folder) / f"{name}.png")
        rows.append({"image_id": name, "path": f"{name}.png", "label": str(shape)})
    return rows


def write_mask(path, box):
    """Write a label map of a source image that marks a box, (left, top, right, bottom) in pixels, with 1 and its frame
    with 2."""
    mask = Image.new("L", (48, 40))
    ImageDraw.Draw(mask).rectangle(box, fill=1, outline=2)
    mask.save(path)


def write_sheet(path, rows):
    """Write an image sheet; columns that a row lacks stay empty."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, SHEET_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_table(path, rows):
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def write_concepts(path, concepts=CONCEPTS):
    write_table(path, [("word", "category"), *concepts])


def write_sentence_encoder(path, *, seed=0):
    """Write a random one-layer BERT that reads letters, in the zip archive that the ConSE encoder takes."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    vocabulary = {"[PAD]": 0, "[UNK]": 1} | {letter: 2 + i for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    settings = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(settings)
    folder = Path(path).with_suffix("")
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            archive.write(folder / name, name)


BRODEN_LABELS = {  # number: name, category as label.csv writes it
    1: ("red-c", "color(4)"),
    2: ("blue-c", "color(4)"),
    7: ("side_street-s", "scene(2)"),
    8: ("dotted", "texture(1)"),
    9: ("woven", "texture(1)"),
    300: ("car", "object(3)"),
    301: ("wheel", "object(1);part(2)"),
    302: ("door", "part(2)"),
}


def write_broden(folder, n=4):
    """Write a miniature of Broden below `folder`: source images with label maps of half their size, as it has."""
    root = Path(folder) / "broden1_224"
    names = ["ade20k/ADE_train_00000001", "ade20k/ADE_train_00000002", "pascal/2008_000002", "dtd/g_0106"]
    names += [f"opensurfaces/{number}" for number in range(4, n)]
    lines = ["image,split,ih,iw,sh,sw,color,object,part,material,scene,texture"]
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        source_image = root / "images" / f"{name}.jpg"
        source_image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(source_image)
        maps = {"color": 1 + number % 2} | ({"object": 300, "part_1": 301, "part_2": 302} if number != 3 else {})
        for part, value in maps.items():
            left = int(rng.integers(0, 16))
            mask = np.zeros((32, 32, 3), np.uint8)
            mask[8:24, left : left + 16, :2] = value % 256, value // 256
            Image.fromarray(mask).save(root / "images" / f"{name}_{part}.png")
        cells = {part: f"{name}_{part}.png" for part in maps}
        parts = ";".join(cells[part] for part in ("part_1", "part_2") if part in cells)
        scene, texture = "7" if number < 2 else "", "8;9" if number == 3 else ""
        columns = [cells["color"], cells.get("object", ""), parts, "", scene, texture]
        lines.append(",".join([f"{name}.jpg", "train", "64", "64", "32", "32", *columns]))
    (root / "index.csv").write_text("\n".join(lines) + "\n")
    labels = [f"{number},{name},{category},1,1.0," for number, (name, category) in BRODEN_LABELS.items()]
    (root / "label.csv").write_text("\n".join(["number,name,category,frequency,coverage,syns", *labels]) + "\n")
    categories = [f"{name},1,302,8,9" for name in ("color", "object", "part", "material", "scene", "texture")]
    (root / "category.csv").write_text("\n".join(["name,first,last,count,frequency", *categories]) + "\n")


def config():
    """Config of the miniature: one model with two layers, three shards each of images to label with (3, 3, 1) and to
    explain (2, 1 and a broken one, 2)."""
    source_images = {"shard_size": 3, "sources": [{"folder": "source_images"}]}
    return {
        "device": "cpu",
        "threads": 1,
        "batch_size": 4,
        "models": {
            "toy": {
                "architecture": "toy:network",
                "weights": {"path": "weights/toy.pt"},
                "classes": "config/classes.txt",
                "preprocessing": dict(PREPROCESSING),
                "layers": ["relu1", "relu2"],
                "cam_layer": "relu2",
            }
        },
        "images": {
            "probe": {"sheet": "config/probe.csv", **source_images},
            "explain": {"sheet": "config/explain.csv", **source_images, "shard_size": 2, "on_bad_image": "skip"},
        },
        "encoder": {
            "kind": "conse",
            "architecture": "toy:imagenet_network",
            "files": {"image": {"path": "weights/imagenet.pt"}, "text": {"path": "weights/text.zip"}},
            "preprocessing": dict(PREPROCESSING),
        },
        "concepts": {"list": "config/concepts.csv"},
        "dissect": {  # soft_wpmi needs a hundred source images, and seven support no label
            "similarity": "cos_similarity",
            "evidence": {"resamples": 5, "null_draws": 50},
        },
        "explain": {
            "cams": ["gradcam"],
            "lime": {"n_samples": 20, "superpixels": {"method": "felzenszwalb", "min_size": 60}, "num_features": 3},
        },
        "faithfulness": {"steps": 3, "percentiles": [50]},
        "sanity": {"n_images": 3, "seeds": 2, "samples": [20]},
    }


def whole_config():
    """The same with a second model of names like numbers, and with every part that a config may leave out."""
    settings = config()
    settings["models"]["18"] = settings["models"]["toy"] | {
        "architecture": "toy:numbered_network",
        "weights": {"path": "weights/numbered.pt"},
        "layers": ["1.10", "4"],
        "cam_layer": "4",
    }
    superpixels = [{"method": "grid", "size": 12}, settings["explain"]["lime"]["superpixels"]]
    return settings | {
        "netdissect": {"masks": "config/masks.csv", "share": 0.05},
        "audit": {CLASSES[0]: {"expected": ["red"], "unexpected": ["null"]}},
        "tune": {"n_images": 3, "grid": {"n_samples": [12, 20], "superpixels": superpixels}},
    }


def write_inputs(folder):
    """Write the files that `config` names below `folder`."""
    folder = Path(folder)
    source_images = folder / "source_images"
    rows = write_source_images(source_images, 6)
    Image.new("RGB", (48, 40)).save(source_images / "the black one.png")
    (source_images / "broken.jpg").write_bytes(truncated_jpeg())
    for row, box in ((rows[1], (8, 8, 30, 24)), (rows[4], (2, 10, 40, 30))):
        row["mask"] = row["path"].replace(".png", "_mask.png")
        write_mask(source_images / row["mask"], box)
    black = {"image_id": "1.10", "path": "the black one.png"}
    first, second, third, fourth, *_ = rows
    explained = [
        {key: first[key] for key in ("image_id", "path")},  # without a label
        third | {"box": "0.25 0.1 0.75 0.9"},
        fourth | {"label": ""},
        {"image_id": "007", "path": "broken.jpg", "label": "1"},
        black | {"label": "0"},
        second | {"image_id": "NA"},  # with a mask
    ]
    write_sheet(folder / "config/explain.csv", explained)
    for row, box in ((first, (3, 3, 20, 36)), (third, (20, 4, 44, 20)), (rows[5], (12, 12, 30, 34))):
        row["mask"] = row["path"].replace(".png", "_mask.png")  # five in all: fewer name no unit
        write_mask(source_images / row["mask"], box)
    write_sheet(folder / "config/probe.csv", [*rows, black])
    write_concepts(folder / "config/concepts.csv")
    write_table(folder / "config/masks.csv", [("value", "word", "category"), *MASK_WORDS])
    (folder / "config/classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    save_checkpoint(folder / "weights/toy.pt")
    save_checkpoint(folder / "weights/numbered.pt", numbered_network, seed=1)
    save_checkpoint(folder / "weights/imagenet.pt", imagenet_network)
    write_sentence_encoder(folder / "weights/text.zip")


def write_config(folder, settings):
    """Write a config where `--configfile` of the tests looks for it; JSON is YAML."""
    Path(folder, "config/toy.yaml").write_text(json.dumps(settings, indent=2))


def truncated_jpeg():
    """Bytes of a JPEG that was cut in the middle, as a broken download is."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "jpeg")
    return buffer.getvalue()[: len(buffer.getvalue()) // 2]
