"""Memory and run time that jobs ask for: what each held, and room (docs/cluster.md), both more at every attempt; and which go first."""

import math

from unitlens.jobs import costs

# megabytes before what grows with the shard
FACTS_MB = 2000  # a network, loaded and shown one image
NETWORK_MB = 1000  # a network and the libraries that run it
ENCODER_MB = 1600  # an encoder, of which CLIP's ViT-B/16 is held twice while it is loaded
CHANGED_MB = 1500  # a network, and images or weights that are changed again and again
LAYER_MB = 2000  # a network, and the activations of a layer put together
LABELS_MB = 2000  # similarities of a layer's units to every concept
TRIALS_MB = 2500  # the accounts of all explained source images, or all trials
WORDS_MB = 2500  # the encoder of words, and the labels of all units
MAPS_MB = 1500  # libraries that cut, measure and draw maps
PAIRS_MB = 2000  # the same, and the ranks of every two maps
TABLES_MB = 1500  # libraries of tables and statistics
CARDS_MB = 2000  # the page of all units
REFERENCES_MB = 3450  # a network, and the packages that define the explainers


def memory_of_blocks(wildcards, attempt):
    """Memory for the source images that are decoded at once and up to eight label maps of each (docs/cluster.md)."""
    pixels = math.prod(sides(geometry(wildcards)["crop"]))
    large = max(config["images"][wildcards.dataset]["max_pixels"] - 2 * 10**8, 0)  # beyond what is usual
    return attempt * (1000 + (AT_ONCE * pixels * (3 + 2 * 8) + 8 * large) // 2**20)


def memory(megabytes, maps=0, section=None):
    """Memory that grows with every attempt and with the maps that a job holds of each source image of a shard, or of the
    first ones that a `section` of the config names, or a number: so many, or those of `all` explainers, 14 bytes a
    pixel (docs/cluster.md)."""

    def needed(wildcards, attempt):
        held = len(explainers(wildcards.model)) if maps == "all" else maps
        if isinstance(section, int):
            most = section
        else:
            most = config[section]["n_images"] if section else config["images"]["explain"]["shard_size"]
        source_images = min(most, count_rows("explain"))
        pixels = math.prod(sides(preprocessing(wildcards)["crop"])) if held else 0
        return attempt * (megabytes + 14 * held * source_images * pixels // 2**20)

    return needed


def memory_of_scores(wildcards, attempt):
    """Memory for the scores of all explained source images: 2 kB for each pair of explainers and cut (docs/cluster.md)."""
    cuts = len(config["agreement"]["areas"]) + 5
    pairs = sum(math.comb(len(explainers(model)), 2) for model in explained_models())
    return attempt * (TABLES_MB + 2 * pairs * cuts * count_rows("explain") // 1024)


def memory_of_classes(wildcards, attempt):
    """Memory for the accounts of one pass over the classes, or of all source images if they are of one class: 40 kB each
    where the layer has 2048 units (docs/cluster.md)."""
    return attempt * (TABLES_MB + 40 * count_rows("explain") // 1024)


def memory_of_labels(wildcards, attempt):
    """Memory for the activations of a layer, twice: 2048 units of each source image to label with (docs/cluster.md)."""
    return attempt * (LABELS_MB + 16 * count_rows("probe") // 1024)


def memory_of_controls(wildcards, attempt):
    """The same, and the scores of all classes with names and of all words, theirs among them, 16 bytes each."""
    classes = sum(map(count_classes, named_classes([wildcards.model])))
    scores = 16 * classes * (costs.count_words(config) + classes) // 2**20
    return memory_of_labels(wildcards, attempt) + attempt * scores


def memory_of_network(megabytes, maps=0, section=None):
    """Memory of a job that runs a network: on a GPU CUDA's libraries, on a CPU the activations of a batch (docs/cluster.md)."""
    needs = {"cuda": 2000, "cpu": 65 * config["batch_size"]}
    return memory(megabytes + needs.get(config["device"], max(needs.values())), maps, section)


def minutes(base):
    """Run time that grows with every attempt."""
    return lambda wildcards, attempt: base * attempt


BRIEF, SHORT, USUAL, LONG = map(minutes, (10, 15, 30, 60))  # of which most jobs need seconds


def first_picture(wildcards):
    """Let the jobs go first that lead to the first picture of an explanation."""
    model = explained_models()[0]
    explainer, geometry = explainers(model)[0], geometry_name(config["models"][model]["preprocessing"])
    own = dict(wildcards.items())
    if "method" in own:
        own["explainer"] = "{method}-{layer}".format(**own)
    first = {"model": model, "explainer": explainer, "dataset": "explain", "geometry": geometry, "shard": "00000"}
    return 2 * all(own.get(name, value) == value for name, value in first.items())
