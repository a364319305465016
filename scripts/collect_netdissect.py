"""Put the labels of Network Dissection beside those of CLIP-Dissect, and count detectors and agreement."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens import encoders, gallery, netdissect, tables

    torch.set_num_threads(snakemake.threads)
    table = netdissect.beside_labels(tables.read(snakemake.input.dissected), tables.read(snakemake.input.labels))
    words = netdissect.words_of(table)
    encoder = encoders.load(snakemake.params.encoder, snakemake.input, device=snakemake.params.device)
    table = netdissect.with_agreement(
        table, words, encoder.text(words).cpu().numpy(), same=snakemake.params.near_duplicate
    )
    summary = netdissect.summarise(table, seed=snakemake.params.seed)
    tables.write(table, snakemake.output.units)
    tables.write(summary, snakemake.output.layers)
    gallery.write_findings(snakemake.output.findings, netdissect.findings(summary))
    print(summary.to_string())
