# ScaleNorm Bench. Everything that a user edits is in config.yaml.
#
#   snakemake --cores all                        all studies that this machine runs, then report/report.html
#   snakemake --cores all --use-conda            the same in conda environments
#   snakemake --cores all pocket                 one study (any name under `studies`), then the report
#   snakemake --cores all --config studies=quick,pocket
#   snakemake --cores 1 partial                  tables and report from the records that exist, training nothing
#   snakemake --cores 1 reference                the committed tables and report again, from the committed records
#   snakemake --cores all audit                  does the code keep the privacy that its records claim?
#   snakemake --cores all verify                 does study quick, run here, agree with the committed results?
from snakemake.utils import min_version

min_version("9.20")


include: "workflow/rules/common.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/speed.smk"
include: "workflow/rules/audit.smk"
include: "workflow/rules/reference.smk"


rule all:
    default_target: True
    input:
        # the records and tables too: Snakemake does not miss an intermediate file behind a finished report
        records_of(selected()),
        rules.summarise.output,
        rules.report.output,
