wildcard_constraints:
    dataset=r"[a-z0-9-]+",
    recipe=r"[a-z0-9-]+",
    arch=r"[a-z0-9-]+",
    variant=r"[a-z0-9-]+",
    epsilon=r"[0-9.]+|inf",
    seed=r"\d+",


# On a cluster a download is for the machine that Snakemake runs on; the others may have no way out. What takes seconds is not
# worth a wait in its queue.
localrules:
    dataset,
    calibrate,


rule dataset:
    output:
        "results/datasets/{dataset}.json",
    log:
        "results/logs/datasets/{dataset}.log",
    conda:
        "../envs/torch.yaml"
    params:
        dataset=dataset_spec,
    shell:
        "python -m bench dataset {wildcards.dataset} --out {output} 2> {log}"


rule calibrate:
    input:
        dataset=dataset_of,
    output:
        "results/noise/{recipe}/eps{epsilon}.json",
    log:
        "results/logs/noise/{recipe}/eps{epsilon}.log",
    priority: 2
    conda:
        "../envs/torch.yaml"
    params:
        budget=budget,
    shell:
        "python -m bench calibrate {wildcards.recipe} {wildcards.epsilon} --out {output} 2> {log}"


rule train:
    input:
        # made of the data, so that a run follows on those, too; a second input costs a tenth of a large plan's time
        noise="results/noise/{recipe}/eps{epsilon}.json",
    output:
        "results/runs/{recipe}/{arch}/{variant}/eps{epsilon}/seed{seed}.json",
    log:
        "results/logs/runs/{recipe}/{arch}/{variant}/eps{epsilon}/seed{seed}.log",
    # seed by seed, so that whole pairs of every arm come early
    priority: lambda wildcards: 1 / (1 + int(wildcards.seed))
    conda:
        "../envs/torch.yaml"
    threads: CONFIG["machine"]["threads"]
    resources:
        gpu=int(GPU),
    params:
        run=resolved,
    message:
        "training {output}; to watch: tail -f {log}"
    shell:
        "python -m bench train --run-json {params.run:q} --noise {input.noise} --out {output} > {log} 2>&1"
