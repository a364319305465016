"""Put the labels of Network Dissection beside those of CLIP-Dissect, and count detectors and agreement."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    import torch
    from unitlens.networks import encoders
    from unitlens.report import concept_figures, concept_findings, pages
    from unitlens.storage.tables import read_table, write_table
    from unitlens.tables import netdissect

    torch.set_num_threads(snakemake.threads)
    table = netdissect.beside_labels(read_table(snakemake.input.dissected), read_table(snakemake.input.labels))
    words = netdissect.words_of(table)
    encoder = encoders.load(snakemake.params.encoder, snakemake.input, device=snakemake.params.device)
    features = encoder.text(words).cpu().numpy()
    table = netdissect.with_agreement(table, words, features)
    summary = netdissect.summarize(table, words, features, seed=snakemake.params.seed)
    write_table(table, snakemake.output.units)
    write_table(summary, snakemake.output.layers)
    concept_figures.units_named_by_masks(table, snakemake.output.figure)
    pages.write_findings(snakemake.output.findings, concept_findings.netdissect_findings(summary, table))
    print(summary.to_string())
