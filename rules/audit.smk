# Whether classes lean on the concepts that they should, and on none that they should not.


rule audit_classes:
    input:
        accounts=per_explained_shard("results/accounts/{model}/{shard}.h5"),
        concepts="results/concepts.csv",
        masks=if_any(if_configured("netdissect", "results/netdissect.csv")),
        words=words_of_audit(),
    output:
        table="results/audit.csv",
        findings="results/findings/audit.json",
    log:
        "results/logs/audit_classes/all.log",
    benchmark:
        "results/benchmarks/audit_classes/all.tsv"
    conda:
        "../envs/unitlens.yaml"
    resources:
        mem_mb=memory(TRIALS_MB),
        runtime=SHORT,
    params:
        audit=config.get("audit", {}),
        classes=class_lists(),
        digests=class_digests(class_lists().values()),
        seed=config["seed"],
    message:
        "Audit which concepts classes lean on"
    script:
        "../scripts/audit_classes.py"
