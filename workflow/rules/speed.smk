# Not part of `all`: it wants the machine for itself. `snakemake --cores all speed`, then `partial` to see it in the report.
# Rows go into a partial table as soon as they are known, which Snakemake does not delete: a second call goes on from there.
rule speed:
    output:
        "results/speed.csv",
    log:
        "results/logs/speed.log",
    conda:
        "../envs/torch.yaml"
    # late: an executor of a cluster has no number of cores
    threads: lambda wildcards: workflow.cores
    resources:
        # all of them: nothing may run beside what is timed
        gpu=GPU_SLOTS,
    params:
        tests=os.path.join(REPO, "bench/speed"),
        partial="results/speed.partial.csv",
    shell:
        "CUBLAS_WORKSPACE_CONFIG=:4096:8 python -m pytest {params.tests:q} -p no:cacheprovider --csv {params.partial}"
        " --threads {threads} > {log:q} 2>&1 && mv {params.partial} {output:q}"
