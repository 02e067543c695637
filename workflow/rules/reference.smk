localrules:
    reference,
    verify,


# Committed results are no rule's output, so nothing that Snakemake finds out of date ever replaces them.
rule reference:
    log:
        "results/logs/reference.log",
    conda:
        "../envs/report.yaml"
    shell:
        "python -m bench reference 2>&1 | tee {log}"


rule verify:
    input:
        runs_to_verify,
    log:
        "results/logs/verify.log",
    conda:
        "../envs/report.yaml"
    params:
        reference=sources("results/reference/runs.csv"),
    shell:
        "(python -m bench summarise &&"
        " python -m bench compare results/runs.csv {params.reference:q} --study quick) 2>&1 | tee {log}"
