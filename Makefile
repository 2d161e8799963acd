# 'make test' and 'make demo' do everything on a bare Debian 12 or newer: see tests/setup/install.

PYTHON = .venv/bin/python
PYTEST = $(PYTHON) -m pytest
# The live tests mostly wait, so that two cores serve four of them; each worker has a laboratory of its own.
LIVE = -m live -p no:cacheprovider -n 4 --dist loadfile --no-loadscope-reorder tests/live
# Postfix's master insists on root; for whatever starts one, and for nothing else, sudo is used.
AS_ROOT = $(shell [ "$$(id -u)" = 0 ] || echo sudo)
ROOT_ENV = env PYTHONDONTWRITEBYTECODE=1 $(if $(CI),CI=$(CI)) $(if $(FORCE_COLOR),FORCE_COLOR=$(FORCE_COLOR))

.PHONY: help setup setup-demo demo bench profile test check lint interop pictures mutants in-root deb deb-test site clean

help:
	@echo 'make demo      real mail through Postfix, smilla, nsd and unbound, in a temporary folder (KEEP=1: keep it running)'
	@echo 'make bench     speed and memory against what does nothing or the same (QUICK=1; ROWS=mta,alone; JSON=FILE)'
	@echo 'make profile   where the time of one letter goes, in smilla'
	@echo 'make test      set-up, every check, every test'
	@echo 'make check     ruff, mypy, import-linter, mandoc'
	@echo 'make lint      the same without the man pages'
	@echo 'make interop   only the tests with the programs of others, and the table of what opens where'
	@echo 'make pictures  what Thunderbird shows of encrypted mail, as pictures in .cache/pictures'
	@echo 'make mutants   smilla with one fault at a time: does a test see it? (FILES=smilla/policy; TIME=20m)'
	@echo 'make site      the documents as a static site, with a picture of the demo, in .cache/site'
	@echo 'make deb       the Debian package for the release of this machine, in .cache/deb (DEB_VERSION=1.2.3)'
	@echo 'make deb-test  the package built, installed, upgraded, removed, purged in empty roots (SUITE=trixie)'
	@echo 'make in-root   demo and test in an empty root of a release of Debian, from a clean clone (SUITE=trixie; KEEP_ROOT=1)'
	@echo 'make setup     only what the others need'
	@echo 'make clean     removes all that was made here'

setup:
	@tests/setup/install

setup-demo:
	@tests/setup/install demo

demo: setup-demo
	@$(if $(AS_ROOT),echo "demo: through sudo: Postfix needs root")
	@$(AS_ROOT) $(ROOT_ENV) $(PYTHON) -m tests.demo.demo $(if $(KEEP),--keep)

bench: setup-demo
	@$(if $(AS_ROOT),echo "bench: through sudo: Postfix needs root")
	@$(AS_ROOT) $(ROOT_ENV) $(PYTHON) -m tests.bench.bench $(if $(QUICK),--quick) $(if $(ROWS),--rows $(ROWS)) \
		$(if $(JSON),--json $(JSON)) $(foreach peer,$(PEER),--peer $(peer))

profile: setup-demo
	@$(PYTHON) -m tests.bench.hotpath

test: check
	@rm -rf .cache/interop
	@$(PYTHON) -m compileall -q smilla  # once, not by each process that the tests start
	$(PYTEST) -m 'not live' -n 2 --dist loadfile tests
	@cat .cache/interop/*.txt
	@$(if $(AS_ROOT),echo "test: the live tests go through sudo: Postfix needs root")
	$(AS_ROOT) $(ROOT_ENV) $(PYTEST) $(LIVE)

check: lint
	@! mandoc -T lint man/*.[0-9] | grep -v 'manual not found: Xr smilla'  # those that are not installed

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy smilla tests
	.venv/bin/lint-imports

interop: setup
	@rm -rf .cache/interop
	@$(PYTEST) -m interop -n 2 --dist loadfile tests; status=$$?; cat .cache/interop/*.txt; exit $$status

pictures: setup
	$(AS_ROOT) $(ROOT_ENV) $(PYTEST) -m live -p no:cacheprovider tests/live/test_thunderbird.py
	@ls .cache/pictures/*.png

# The extras 'mutants' are installed where they are asked for only.
TIME = 30m
mutants: setup
	@$(PYTHON) -c 'import cosmic_ray, coverage' 2>/dev/null || $(PYTHON) -m pip install -q -e '.[mutants]'
	@$(PYTHON) -m tests.mutants.run --time $(TIME) $(if $(FILES),--files $(FILES))

# The extras 'site' are installed where they are asked for only.
site: setup
	@$(PYTHON) -c 'import markdown_it, rich' 2>/dev/null || $(PYTHON) -m pip install -q -e '.[site]'
	@FORCE_COLOR=1 $(MAKE) --no-print-directory demo > .cache/demo.txt
	@$(PYTHON) man/site .cache/site --demo .cache/demo.txt
	@echo 'site: .cache/site/index.html'

# The newest stable release, unless told.
SUITE = trixie
in-root:
	tests/setup/in-root $(SUITE)

# Debian's rules are in contrib/debian.
deb:
	@contrib/debian/build

deb-test:
	@tests/setup/deb-in-root $(SUITE)

clean:
	rm -rf .venv .cache build ./*.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
