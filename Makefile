# `make` says what there is to make. All but help and site make .venv from the lock if it is missing.
PYTHON ?= python3
VENV ?= .venv
# Absolute, by the shell: make's own functions take a space for the end of a path.
HERE := $(shell dirname "$$(readlink -f "$$(echo '$(MAKEFILE_LIST)' | sed 's/^ *//')")")
PLACE := $(shell readlink -f "$(VENV)" || echo "$(VENV)")
export PATH := $(PLACE)/bin:$(PATH)
export HF_HUB_OFFLINE = 1
PROFILE ?= slurm
LOCK = $(HERE)/envs/requirements.txt
STAMP = $(PLACE)/.unitlens-lock

.PHONY: help env demo laptop new site check report recover test test-slow test-all mutants bench bench-gpu bench-faithfulness lint

define HELP
make demo               the demonstration: real weights and photographs from packages, ten to fifteen minutes on two cores
make laptop             the full-scale experiment on a laptop: CLIP, 1000 images, 656 MB to download (docs/full-scale.md)
make new RUN=<folder>   a run folder of its own, for other models and images (docs/your-own.md)
make site               what the SLURM of this machine has and takes: a proposal for profiles/slurm, tried by one tiny job a partition
make report             the report of a run that failed, was killed or still runs
make recover            go on after Snakemake was killed
make check              find damaged array files
make env                the environment alone, in $(PLACE); each of these makes it
For developers: test, test-slow, test-all, lint, mutants, bench, bench-gpu, bench-faithfulness (docs/CONTRIBUTING.md)
endef

help:
	@: $(info $(HELP))

# The versions are those that every package of the lock has a wheel for. An environment is made anew when the lock has
# another content, not another time.
env:
	@cmp -s "$(LOCK)" "$(STAMP)" || { $(INSTALL); }

define INSTALL
$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	f"The locked packages are for Python 3.11, 3.12 and 3.13; {sys.executable} is {v[0]}.{v[1]}" + ", for which immutables has no wheel" * (v > (3, 13)) + ". Name another one: make env PYTHON=python3.12")' && \
case "$(PLACE)" in (*[[:space:]]*) \
	echo "$(PLACE): Snakemake runs no script by a Python whose path has a space. Name another place, to every target: VENV=$$HOME/unitlens-env" >&2; exit 2 ;; esac && \
echo "Installing the locked packages of $(LOCK) into $(PLACE): 7 GB on Linux, most of it PyTorch and CUDA's libraries." && \
$(PYTHON) -m venv "$(PLACE)" && \
"$(PLACE)/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$(LOCK)" && \
cp "$(LOCK)" "$(STAMP)"
endef

demo: env
	@echo "The demonstration takes ten to fifteen minutes on two cores; it is resumed if it is interrupted. The console names pictures of explanations once they are there, the first ones early."
	snakemake --profile profiles/demo --report results/report.html --report-after-run

laptop: env
	@echo "The experiment takes about 45 minutes on four cores after 656 MB of downloads; it is resumed if it is interrupted."
	snakemake --profile profiles/laptop --report results/report.html --report-after-run

# A run of its own: a copy of config/, empty results and resources, links to everything else. make new RUN=<folder>
new: env
	@test -n "$(RUN)" || { echo "Say where: make new RUN=<folder>" >&2; exit 2; }
	@test ! -e "$(RUN)" || { echo "$(RUN) exists" >&2; exit 2; }
	@mkdir -p "$(RUN)/results" "$(RUN)/resources"
	@cp -R "$(HERE)/config" "$(RUN)/config" && ln -sf "$(HERE)/config/schema.yaml" "$(RUN)/config/schema.yaml"
	@test ! -e "$(HERE)/resources/lock.json" || cp "$(HERE)/resources/lock.json" "$(RUN)/resources/"
	@for each in Snakefile Makefile rules scripts envs report profiles docs; do ln -s "$(HERE)/$$each" "$(RUN)/"; done
	@ln -s profiles/slurm "$(RUN)/slurm"
	@ln -s "$(PLACE)" "$(RUN)/.venv"
	@echo "Edit $(RUN)/config, then: cd '$(RUN)' && source .venv/bin/activate && snakemake --profile slurm"

# Ask SLURM, write site/, run one job of seconds on each partition.
site:
	@$(PYTHON) "$(HERE)/profiles/slurm/site.py"

# Read every array file; name and delete the damaged ones, which the next run makes again.
check: env
	@PYTHONPATH="$(HERE)/scripts" python -c 'import sys; from unitlens.storage import arrays; sys.exit("\n".join(arrays.remove_damaged("results")) or None)'

# The report of a run that failed, was killed or still runs: of what exists, in results/partial/. PROFILE=<none, slurm, …> ARGS=<its other arguments>
report: RUN = snakemake $(PROFILE:%=--profile %) $(ARGS)
report: PAGES = write_partial_overview write_partial_explanations write_partial_units write_partial_tables
report: env
	@rm -rf results/partial && mkdir -p results/partial
	$(RUN) --rerun-triggers mtime params input --summary > results/partial/summary.tsv
	$(RUN) --nolock --keep-going --allowed-rules partial $(PAGES) -- partial; status=$$?; \
	test -e results/partial/overview.html || exit $$status; \
	$(RUN) --report results/partial/report.html -- $$(ls -d results/partial/*.html results/partial/tables 2> /dev/null) && \
	echo "Open results/partial/report.html or, beside it, overview.html: they begin with what is missing." && exit $$status

# After Snakemake was killed: cancel its jobs, remove half-written files, unlock, go on. PROFILE=slurm ARGS=<more arguments>
recover: env
	"$(HERE)/profiles/slurm/recover.sh" --profile $(PROFILE) $(ARGS)

# Two processes, a file of tests each at a time: most fixtures are a file's own.
test: env
	OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slurm and not e2e and not slow"

# The slow tests; of many cases alike a quarter, drawn by the number of commits.
test-slow: env
	pytest -m "slurm or e2e or slow" --sample "$$(git rev-list --count HEAD 2> /dev/null || echo 0)"

test-all: env
	pytest

# Which small changes of the library no test notices: ARGS="<modules> --number <in each> --seed <seed>"
mutants: env
	nice python tests/mutants.py $(ARGS)

bench: env
	PYTHONPATH=scripts python tests/bench/explainers.py $(BENCH)
	PYTHONPATH=scripts python tests/bench/dissection.py
	PYTHONPATH=scripts python tests/bench/extraction.py
	PYTHONPATH=scripts python tests/bench/images.py
	PYTHONPATH=scripts python tests/bench/scale.py
	PYTHONPATH=scripts python tests/bench/starts.py

bench-gpu: env
	PYTHONPATH=scripts python tests/bench/explainers.py --device cuda $(BENCH)
	PYTHONPATH=scripts python tests/bench/dissection.py --device cuda
	PYTHONPATH=scripts python tests/bench/extraction.py --device cuda

bench-faithfulness: env
	PYTHONPATH=scripts$(QUANTUS:%=:%) python tests/bench/faithfulness.py $(BENCH)

lint: env
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	snakemake --lint --configfile config/demo.yaml
