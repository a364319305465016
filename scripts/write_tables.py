"""Write the tables of a run as pages of Snakemake's report: one page per topic, to sort and to search."""

from unitlens.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens.report import table_pages

    table_pages.write_pages(snakemake.output[0], snakemake.params.topics, snakemake.input)
