"""Compare every two explainers on every photograph of one shard."""

from unitlens.logs import log_to

with log_to(snakemake.log[0]):
    from unitlens import agreement, store

    masks, _ = store.read(snakemake.input.masks)
    explanations = [store.read(path) for path in snakemake.input.saliency]
    saliencies = {facts["explainer"]: arrays["saliency"] for arrays, facts in explanations}
    table = agreement.score_pairs(masks, saliencies, **snakemake.params.agreement)
    table.insert(0, "model", snakemake.wildcards.model)
    table.to_csv(snakemake.output[0], index=False, float_format="%.6g")
