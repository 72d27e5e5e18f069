# Two commands matter: `make demo` shows what the method does, `make test` checks everything.
# Both set themselves up on a machine that has only python3, make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SITE := $(VENV)/.site
COLAB := .venv-colab
DEMO := runs/demo

# Two workers of one torch thread each (two processes of two threads on two cores slow each other tenfold); a file stays with its worker.
PYTEST := TQDM_DISABLE=1 DSLIB_TIER=smoke OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadscope --no-loadscope-reorder

.PHONY: demo check test layers install lint notebooks lab badges colab-test site slides bench results words regime ablations curves clean help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

# Short and hot, so that copying begins within minutes; anchored (our extension), with the weights chosen on validation images.
demo: $(READY)  ## ten engravings in, new ones out, beside naive fine-tuning that copies; about 4 minutes on two slow cores
	$(BIN)/dslib adapt --target engraved --compare_finetune --pairwise_on source --num_anchors 50 --lambda_img 1 --lambda_hf 1 \
	  --max_train_steps 120 --learning_rate 1e-3 --num_images 32 --overwrite --output_dir $(DEMO) $(ARGS)
	@echo && echo "Open $(CURDIR)/$(DEMO)/report.html"

check: $(READY)  ## the tests of the paper, dslib's root: a minute on two cores
	$(PYTEST) -m "not slow" --durations=3 tests/test_*.py

test: $(READY) lint  ## every test, and every notebook in the smoke tier
	$(PYTEST) --nbval-lax --nbval-current-env --nbval-cell-timeout=300 --durations=10 tests notebooks

layers:  ## who imports whom between dslib's folders; fails where an import points upward
	@$(PYTHON) tools/layers.py

install: $(READY)  ## only make .venv; CPU=1: without CUDA, 4 GB less on Linux (TORCH_INDEX=… names an index of torch's wheels)

# CPU=1: uv knows where torch's wheels without CUDA lie, pip does not. What it has installed, pip takes for what is asked for.
LIGHT := $(if $(TORCH_INDEX),--index "$(TORCH_INDEX)",$(if $(filter-out 0 no,$(CPU)),--torch-backend cpu))
UV_TORCH = $(BIN)/uv pip install -q --python $(BIN)/python $(LIGHT) torch torchvision

# torch and torchvision come from the same place in one go: a mixed pair does not load.
# constraints.txt holds the tested versions; where they do not fit (another Python), the newest are taken.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python 3.10 or newer is needed: make install PYTHON=python3.12, for example"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(if $(LIGHT),@$(BIN)/python -m pip install -q uv && { $(UV_TORCH) -c constraints.txt 2>/dev/null || $(UV_TORCH); } || \
	  { echo "torch without CUDA could not be fetched (see above): 'make install' takes the usual wheels; TORCH_INDEX=… names an index"; exit 1; })
	$(BIN)/python -m pip install -q -c constraints.txt torch torchvision -e '.[dev]' || \
	  { echo "installing the tested versions failed (see above): trying the newest"; $(BIN)/python -m pip install -q torch torchvision -e '.[dev]'; }
	touch $(READY)

lint: $(READY)  ## ruff
	$(BIN)/ruff check dslib tests notebooks/src tools

notebooks: $(READY)  ## build notebooks/*.ipynb from notebooks/src/*.py and run them in the cpu tier; NB=00_tour for one
	$(BIN)/python tools/build_notebooks.py $(NB)

lab: $(READY)  ## JupyterLab, open at this README
	$(BIN)/jupyter lab --ServerApp.root_dir=$(CURDIR) --LabApp.default_url=/lab/tree/README.md --LabApp.app_settings_dir=$(CURDIR)/.lab

badges: $(READY)  ## write your repository's address into the chapters, with badges of Colab, Kaggle and Binder: REPO=owner/name (none takes it out)
	$(BIN)/python tools/stamp.py "$(REPO)"

# Colab's main packages at other versions than ours, beneath the environment in which tests/course/test_colab.py runs every chapter's first cells.
$(COLAB)/.ready: tools/colab.txt
	rm -rf $(COLAB)
	$(PYTHON) -m venv $(COLAB)
	$(COLAB)/bin/python -m pip install -q --no-compile -r tools/colab.txt
	touch $@

colab-test: $(READY) $(COLAB)/.ready  ## every chapter begins alone at Colab's versions (3 GB to download once); then part of make test
	$(BIN)/python -m pytest -q tests/course/test_colab.py

# The site extra is installed when it is first needed. Nothing is run and nothing fetched: the pages show the committed outputs.
$(SITE): $(READY)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[site]' || $(BIN)/python -m pip install -q -e '.[site]'
	touch $(SITE)

site: $(SITE)  ## the course as web pages, with slides: build/site/index.html
	$(BIN)/python tools/build_site.py

slides: $(SITE)  ## only the slides: build/site/slides
	$(BIN)/python tools/build_site.py --slides

bench: $(READY)  ## cost of a step: naive against DomainStudio, measured in one run
	$(BIN)/python -m dslib.study bench

# Every domain, naive and DomainStudio from the same seed, 64 samples each: 600 steps of sunglasses, 300 of the others. A finished run
# leaves RUNS/TARGET-SEED.json and is not repeated, so this can be stopped and goes on where it was; nor are the seeds that EARLIER
# counts, whose files are lost. RUNS= EARLIER= TABLE= ARGS= make a table of other settings.
SEEDS ?= 0 1 2 3 4
TARGETS ?= sunglasses sketches portraits adventurers robots
RUNS ?= data/results/unconditional
EARLIER ?= data/results/earlier.csv
TABLE ?= data/results/table.csv
COMPARE ?= --compare_finetune
results: $(READY)  ## the table of all five domains (about six minutes a run of 300 steps on one core, 25 runs): data/results/table.csv
	$(BIN)/python -m dslib.study results --seeds $(SEEDS) --targets $(TARGETS) --folder "$(RUNS)" --earlier "$(EARLIER)" \
	  --table "$(TABLE)" -- $(COMPARE) $(ARGS)

WORDS := $(BIN)/python -m dslib.study words --folder data/results/words

words: $(READY)  ## obedience of text-to-image methods (about six minutes a run on one core; what is there is not made again): data/results/words.csv
	$(WORDS) --styles engraved portraits --methods "dreambooth, told" --seeds 0 1 2 3 4
	$(WORDS) --styles engraved portraits --methods dreambooth "domainstudio, told" "textual-inversion, told" --seeds 0
	$(WORDS) --styles sketches --methods "dreambooth, told" --seeds 0
	$(WORDS) --pack

ablations: $(READY)  ## the grid of chapter 08 (about 70 minutes on two cores; points that are there are not run again)
	$(BIN)/python -m dslib.study ablations
	$(BIN)/python -m dslib.study ablations --pack --overwrite

REGIME := $(BIN)/python -m dslib.study regime --folder data/results/regime --num_images 128

regime: $(READY)  ## README's evidence: naive, published and anchored on five domains, one to five seeds; what is there is not made again
	$(REGIME) --targets engraved --methods naive --stops 150 300 --seeds 0 1 2 3 4
	$(REGIME) --targets engraved --methods published anchored "published, lambda 1" --stops 300 --seeds 0 1 2 3 4
	$(REGIME) --targets sunglasses gouache portraits --methods naive --stops 150 300
	$(REGIME) --targets sunglasses gouache portraits --methods published anchored --stops 300
	$(REGIME) --targets adventurers --methods naive anchored --stops 300 --seeds 0
	$(REGIME) --pack

curves: $(READY)  ## the curves of chapter 08: five domains, seven methods (four minutes a run on one core; the committed ones are not run again)
	$(BIN)/python -m dslib.study curves
	$(BIN)/python -m dslib.study curves --pack

clean:  ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) $(COLAB) .pytest_cache .ruff_cache *.egg-info
