"""Image-text encoders: images and words to vectors of one space, whose cosine says how well they match.

``clip`` is CLIP through open_clip (Radford et al. 2021). ``conse`` is an offline surrogate after ConSE (Norouzi et al.,
ICLR 2014, arXiv 1312.5650): an image is the probability-weighted mean of the text embeddings of a classifier's ten
best ImageNet classes. It sees only what those 1000 classes span, and is never called CLIP.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unitlens.jobs.characters import nearest
from unitlens.jobs.progress import progress
from unitlens.networks import checkpoints, folding, hub, memory, network, pretrained
from unitlens.networks.build import without_compiler
from unitlens.storage import kept
from unitlens.storage.archives import unpack
from unitlens.storage.files import sha256

_TOP_CLASSES = 10  # ConSE's T
_TEXT_BATCH = 256
_ENCODER_FILES = ("config.json", "model.safetensors", "tokenizer.json")


class Encoder(NamedTuple):
    """An image-text encoder."""

    image: Callable[[Tensor], Tensor]  # uint8 images (n, h, w, 3) to (n, d), of unit length for ConSE only
    text: Callable[[Sequence[str]], Tensor]  # to (words, d)
    title: str  # in tables and figures


def conse(
    files: Mapping[str, Path],
    *,
    architecture: str,
    layout: str,
    mean: Sequence[float],
    std: Sequence[float],
    device: str,
) -> Encoder:
    """Load the ConSE surrogate.

    With T the text embeddings of "a photo of a <class>" and mu their mean, an image is
    ``normalize(sum_k p_k normalize(T_k - mu))`` over its ten most probable classes, a text ``normalize(text(x) - mu)``.

    Parameters
    ----------
    files : mapping
        ``image``: checkpoint of an ImageNet classifier. ``text``: zip archive of a sentence encoder (config.json,
        model.safetensors, tokenizer.json), mean pooled.
    architecture, layout, device : str
        Of the classifier, see `network.load_classifier`.
    mean, std : sequence of three floats
        Of the classifier's input.
    """
    kept.check(files["text"])
    embed = _sentence_encoder(files["text"], network.pick_device(device))
    templates = embed([f"a photo of a {name}" for name in network.class_names("imagenet")])  # (classes, d)
    center = templates.mean(0)
    classes = nn.functional.normalize(templates - center)

    normalize, predict = network.normalizer(mean, std, device=network.pick_device(device)), []

    @torch.inference_mode()
    def image(images: Tensor) -> Tensor:
        if not predict:  # texts need no classifier
            options = {"layout": layout, "device": device, "in_place": True}
            classifier = network.load_classifier(architecture, files["image"], **options)
            folding.fold_batch_norm(classifier, lambda: classifier(normalize(images[:2])))
            predict.append(network.predictor(classifier, normalize))
        weights, best = predict[0](images).topk(_TOP_CLASSES)  # (n, 10)
        return nn.functional.normalize(torch.einsum("nk,nkd->nd", weights, classes[best]))

    def text(words: Sequence[str]) -> Tensor:
        return nn.functional.normalize(embed(words) - center)

    return Encoder(image, text, f"ConSE surrogate ({architecture.partition(':')[2]} + MiniLM)")


def clip(
    files: Mapping[str, Path], *, architecture: str, mean: Sequence[float], std: Sequence[float], device: str
) -> Encoder:
    """Load CLIP from a local checkpoint, ``files["weights"]``.

    `architecture` is open_clip's name, for example ``ViT-B-16-quickgelu``; `mean` and `std` are those of the image
    tower's input. A ValueError if open_clip has no such architecture, the checkpoint is damaged, has changed since
    it was kept, does not fit or is a program that OpenAI has not published, or OpenAI's weights are to fill an
    architecture without QuickGELU.
    """
    with without_compiler():
        import open_clip

    if architecture not in open_clip.list_models():
        raise ValueError(
            f"open_clip has no model {architecture!r}; nearest: {nearest(architecture, open_clip.list_models())}"
        )
    where = network.pick_device(device)
    model = open_clip.create_model(architecture, load_weights=False)
    path = Path(files["weights"])
    kept.check(path)
    if hub.WEIGHTS_FILE in hub.members(path):
        with hub.unpacked(path, (hub.WEIGHTS_FILE,)) as folder:
            checkpoints.fill(model, _clip_state(folder / hub.WEIGHTS_FILE, architecture, model), path)
    else:
        checkpoints.fill(model, _clip_state(path, architecture, model), path)
    model = model.eval().to(where)
    tokenize = _tokenizer(path, architecture)
    normalize = network.normalizer(mean, std, device=where)
    noise = normalize(network.noise(model.visual.image_size))
    folding.fold_batch_norm(model.visual, lambda: model.visual(noise))

    @memory.halving
    @torch.inference_mode()
    def image(images: Tensor) -> Tensor:
        return model.encode_image(normalize(images)).float()

    @torch.inference_mode()
    def text(words: Sequence[str]) -> Tensor:
        return torch.cat([model.encode_text(tokenize(batch).to(where)).float() for batch in _batches(words)])

    return Encoder(image, text, f"CLIP {architecture}")


def annotations(files: Mapping[str, Path], *, device: str) -> Encoder:
    """Stand in for an encoder where units are labeled by annotations: texts of one space, all of them unlike.

    There are no `files`, and nothing runs on the device.
    """
    return Encoder(lambda images: torch.empty(len(images), 0), lambda words: torch.eye(len(words)), "")


def _tokenizer(path: Path, architecture: str) -> Callable[[Sequence[str]], Tensor]:
    """Make open_clip's tokenizer; one of huggingface.co comes from the archive that holds the weights, too."""
    import open_clip

    settings = open_clip.get_model_config(architecture)["text_cfg"]
    if not (name := pretrained.tokenizer_repository(architecture)):
        return open_clip.get_tokenizer(architecture)
    if not hub.members(path).issuperset(hub.TOKENIZER_FILES):
        raise ValueError(
            f"{architecture} needs the tokenizer {name} of huggingface.co, which is retrieved with `open_clip: "
            f"{architecture}:<weights>`, and not with a `path` or a `url`"
        )
    options = settings.get("tokenizer_kwargs", {}) | {"context_length": settings.get("context_length", 77)}
    with hub.unpacked(path, hub.TOKENIZER_FILES) as folder:
        return open_clip.tokenizer.HFTokenizer(str(folder), **options)


def _batches(words: Sequence[str]) -> Iterator[list[str]]:
    parts = (list(words[start : start + _TEXT_BATCH]) for start in range(0, len(words), _TEXT_BATCH))
    return progress(parts, len(words), "words")


def _clip_state(path: Path, architecture: str, model: nn.Module) -> dict[str, Tensor]:
    """Read a checkpoint of tensors, or the parameters of one of OpenAI's own TorchScript archives.

    Loading such an archive runs code that it holds: no other one is.
    """
    if not checkpoints.is_program(path):
        return checkpoints.read(path, "named", model)
    if (digest := sha256(path)) not in _published_programs():
        raise ValueError(
            f"{path} is a TorchScript archive, which is a program, with sha256 {digest}; only those that OpenAI has "
            "published are loaded. Save model.state_dict() of it where you trust it"
        )
    if "quickgelu" not in architecture:
        raise ValueError(f"{path} holds OpenAI's weights, which need QuickGELU: architecture {architecture}-quickgelu")
    sizes = ("input_resolution", "context_length", "vocab_size")  # facts that lie among the parameters
    state = torch.jit.load(path, map_location="cpu").state_dict()
    return {name: value for name, value in state.items() if name not in sizes}


def _published_programs() -> set[str]:
    """List the sha256 of OpenAI's archives, which stand in their addresses."""
    import open_clip

    known = (open_clip.get_pretrained_cfg(*names) for names in open_clip.list_pretrained())
    return {pretrained.openai_hash(settings.get("url") or "") for settings in known} - {None}


def load(encoder: Mapping[str, object], files: Mapping[str, Path], *, device: str) -> Encoder:
    """Load the encoder of the config: ``kind`` names the function above, ``options`` are its keywords."""
    known = {"clip": clip, "conse": conse, "annotations": annotations}
    return known[encoder["kind"]](files, device=device, **encoder["options"])


def _sentence_encoder(archive: Path, device: torch.device) -> Callable[[Sequence[str]], Tensor]:
    """Mean-pooled, unit-length sentence embeddings from a zip archive; nothing is looked up on a model hub."""
    from tokenizers import Tokenizer
    from transformers import AutoModel

    with tempfile.TemporaryDirectory() as folder:
        unpack(archive, folder, _ENCODER_FILES)
        if missing := [name for name in _ENCODER_FILES if not Path(folder, name).is_file()]:
            raise ValueError(f"{archive} holds {missing[0]} in a folder only; a sentence encoder needs it at the top")
        hub.check_settings(Path(folder, "config.json"), archive)
        try:
            tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
            model, told = AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, output_loading_info=True
            )
        except Exception as error:  # tokenizers raises nothing narrower
            raise ValueError(f"{archive} holds no sentence encoder: {str(error).partition(chr(10))[0]}") from error
    if absent := sorted(key for key in told["missing_keys"] if not key.startswith("pooler.")):  # it is not used
        raise ValueError(f"{archive}: model.safetensors lacks {len(absent)} tensors of the network, {absent[0]} first")
    model = model.eval().to(device)
    tokenizer.enable_padding()
    tokenizer.enable_truncation(model.config.max_position_embeddings)

    @torch.inference_mode()
    def embed(texts: Sequence[str]) -> Tensor:
        batches, order = [], sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for batch in _batches([texts[place] for place in order]):  # of texts alike in length: little is padding
            encodings = tokenizer.encode_batch(batch)
            ids = torch.tensor([encoding.ids for encoding in encodings], device=device)  # (batch, tokens)
            mask = torch.tensor([encoding.attention_mask for encoding in encodings], device=device)
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state  # (batch, tokens, d)
            total = (hidden * mask[..., None]).sum(1)
            batches.append(nn.functional.normalize(total / mask.sum(1, keepdim=True)))
        return torch.cat(batches)[torch.tensor(order, device=device).argsort()]

    return embed
