"""Write the text features of the concepts."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import numpy as np
    import torch
    from unitlens.jobs.sheets import class_names
    from unitlens.networks import encoders
    from unitlens.storage.arrays import write_arrays
    from unitlens.storage.tables import read_table
    from unitlens.tables import word_controls

    torch.set_num_threads(snakemake.threads)
    encoder = encoders.load(snakemake.params.encoder, snakemake.input, device=snakemake.params.device)
    concepts = read_table(snakemake.input.concepts)
    words = concepts.word.tolist()
    classes = [name for each in snakemake.params.classes for name in class_names(each)]
    names = word_controls.names_to_add(words, classes)
    features = encoder.text(words + names).cpu()
    facts = {"encoder": encoder.title, "torch": torch.__version__}
    listed = {name: concepts[name].to_numpy(object) for name in ("word", "category")}
    write_arrays(snakemake.output.concepts, {"features": features[: len(words)]} | listed, facts)
    others = {"features": features[len(words) :], "word": np.array(names, dtype=object)}
    write_arrays(snakemake.output.classes, others, facts)
