"""Put the labels of Network Dissection beside those of CLIP-Dissect, and count detectors and agreement."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import pandas as pd
    import torch
    from unitlens import encoders, gallery, netdissect

    torch.set_num_threads(snakemake.threads)
    dissected, concepts = (
        pd.concat([pd.read_csv(path, keep_default_na=False) for path in paths])
        for paths in (snakemake.input.dissected, [snakemake.input.labels])
    )
    table = netdissect.beside_labels(dissected, concepts)
    words = netdissect.words_of(table)
    encoder = encoders.load(snakemake.params.encoder, snakemake.input, device=snakemake.params.device)
    table = netdissect.with_agreement(
        table, words, encoder.text(words).cpu().numpy(), same=snakemake.params.near_duplicate
    )
    summary = netdissect.summarise(table, seed=snakemake.params.seed)
    table.to_csv(snakemake.output.units, index=False, float_format="%.6g")
    summary.to_csv(snakemake.output.layers, index=False, float_format="%.6g")
    gallery.write_findings(snakemake.output.findings, netdissect.findings(summary))
    print(summary.to_string())
