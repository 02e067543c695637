# Not part of `all`: it is about the code, and made anew where that changed. `snakemake --cores all audit`.
rule audit:
    input:
        src=sources(
            *sorted(
                str(path.relative_to(bench.ROOT))
                for room in ("audit", "dp", "training")
                for path in (bench.ROOT / "bench" / room).rglob("*.py")
            )
        ),
    output:
        "results/audit.csv",
    log:
        "results/logs/audit.log",
    conda:
        "../envs/torch.yaml"
    # late: an executor of a cluster has no number of cores
    threads: lambda wildcards: workflow.cores
    shell:
        "python -m bench audit --sabotage 1 --cores {threads} --out {output} 2>&1 | tee {log}"
