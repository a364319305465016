"""Put the scores against masks and boxes into one table, average them, test explainers against each other, and draw."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import figures, gallery, groundtruth, tables

    scores = tables.read(snakemake.input)
    summary, tests = groundtruth.summarise(scores, seed=snakemake.params.seed)
    for name, table in {"images": scores, "summary": summary, "tests": tests}.items():
        tables.write(table, snakemake.output[name])
    figures.ground_truth(summary, snakemake.output.figure, titles=groundtruth.TITLES)
    gallery.write_findings(snakemake.output.findings, groundtruth.findings(summary, tests))
