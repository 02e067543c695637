# On a cluster these are for the machine that Snakemake runs on, and what fails in one of them fails again.
localrules:
    summarise,
    report,
    partial,


rule summarise:
    input:
        records=records_of(selected()),
        src=sources(*below("bench/evidence", ".py")),
    output:
        *(
            report(
                f"results/{name}.csv",
                caption=f"../report/{name}.rst",
                category="Tables",
            )
            for name in ("runs", "summary", "claims", "not_run")
        ),
    log:
        "results/logs/summarise.log",
    retries: 0
    conda:
        "../envs/report.yaml"
    params:
        tables=table_spec(),
    shell:
        "python -m bench summarise 2> {log}"


rule report:
    input:
        tables=rules.summarise.output,
        src=sources(
            *below("bench/report", ".py"),
            *below("workflow/report", ".html", ".css", ".js"),
            "results/reference/published.csv",
        ),
        reference=committed("runs") + committed("audit"),
        imported=sorted(map(str, imported.FOLDER.glob("*.jsonl"))),
    output:
        page=report(
            "report/report.html", caption="../report/caption.rst", category="Report"
        ),
        figures=report(
            directory("results/figures"),
            patterns=["{figure}.svg"],
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        "results/logs/report.log",
    retries: 0
    conda:
        "../envs/report.yaml"
    threads: 8  # bench/report/drawing.py starts no more processes
    shell:
        "python -m bench report --out {output.page} 2> {log}"


# Targets without output files: they read what exists and always run when asked for.
for name in STUDIES:

    rule:
        name:
            name
        input:
            records_of([name]),
        log:
            f"results/logs/{name}.log",
        retries: 0
        localrule: True
        conda:
            "../envs/report.yaml"
        threads: 8
        shell:
            "(python -m bench summarise && python -m bench report) 2> {log}"


rule partial:
    log:
        "results/logs/partial.log",
    retries: 0
    conda:
        "../envs/report.yaml"
    threads: 8
    shell:
        "(python -m bench summarise && python -m bench report) 2> {log}"
