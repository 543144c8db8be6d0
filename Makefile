# Shortcuts for daily work. The build itself is CMakeLists.txt; `make` puts everything into build/.

PREFIX ?= /usr/local
FUZZ_SECONDS ?= 20
SANITIZE ?= address,undefined
CHECKS ?= 2000
BENCH ?=
LAB ?=

all: build/CMakeCache.txt
	@cmake --build build --parallel

build/CMakeCache.txt:
	@cmake -S . -B build

# Everything, installing what is missing.
test:
	@./test

# The lab in full: trains every network of every experiment, an hour and a half on 2 idle cores; stopped, it goes on
# from there. Writes report/index.html. make lab LAB='--lang zh --out FOLDER'
lab:
	@./setup demo
	@cmake/build.sh build "norma_command norma_lab norma_report"
	@build/norma lab --full $(LAB)

# Random problems, the library against its reference: make check CHECKS=20000
check: all
	@build/norma check --random $(CHECKS) --seed 1

# The C tests under sanitizers: make sanitize SANITIZE=thread
sanitize:
	@cmake -S . -B build/sanitize -DNORMA_SANITIZE=$(SANITIZE) -DNORMA_WERROR=ON
	@cmake --build build/sanitize --parallel
	@cd build/sanitize && ctest --output-on-failure

# Each fuzz target for FUZZ_SECONDS, built by clang with sanitizers.
fuzz:
	@cmake -S . -B build/fuzz -DCMAKE_C_COMPILER=clang -DNORMA_BUILD_FUZZ=ON -DNORMA_BUILD_TOOLS=OFF -DNORMA_BUILD_TESTS=OFF
	@cmake --build build/fuzz --parallel
	@.ci/fuzz build/fuzz $(FUZZ_SECONDS)

# The rows of bench/workloads.txt beside their floor and other libraries, on a quiet machine: about an hour.
# make bench BENCH='--rows group --threads 1' is a part of it; bench/README.md has more.
bench: all
	@[ -x .venv/bin/python ] || python3 -m venv .venv
	@.venv/bin/pip install -q -r bench/requirements.txt
	@$(MAKE) --no-print-directory python CORE=$(CURDIR)/build/libnorma.a
	@.venv/bin/python bench/run.py $(BENCH)

# Some of the rows, norma alone, in less than a minute.
bench-quick: all
	@python3 bench/run.py --quick --peers '' --threads 1 --rounds 1 --seconds 0.3 $(BENCH)

# What synchronized batch norm costs with 1, 2, 4 and 8 ranks on this machine, into docs/distributed.md. Needs MPI.
bench-sync: all
	@python3 bench/sync.py --write

# The Python package in .venv, with NumPy and PyTorch; the versions are those of python/constraints.txt.
python:
	@[ -x .venv/bin/python ] || python3 -m venv .venv
	@.venv/bin/pip install -q -c python/constraints.txt torch
	@$(MAKE) --no-print-directory python-package

# The same without PyTorch, if it is not there: with CORE=FILE on a libnorma.a that is built already.
python-package:
	@[ -x .venv/bin/python ] || python3 -m venv .venv
	@.venv/bin/pip install -q -c python/constraints.txt numpy ml_dtypes scikit-build-core pytest
	@SKBUILD_BUILD_DIR=build/python-$(if $(CORE),core,own) \
	  SKBUILD_CMAKE_DEFINE='NORMA_PYTHON_CORE=$(CORE);NORMA_PYTHON_COMMAND=$(if $(CORE),OFF,ON)' \
	  .venv/bin/pip install -q --no-build-isolation --no-deps .

# Norma under PyTorch: the override, its derivatives, torch.compile, PyTorch's own samples, models of other libraries.
test-torch: python
	@.venv/bin/pip install -q -c python/constraints.txt torch -r python/tests_torch/requirements.txt
	@.venv/bin/python -m pytest -q -p no:cacheprovider python/tests_torch

install: all
	@cmake --install build --prefix $(PREFIX)

# The C files; the comments of headers are aligned by hand.
format:
	@git ls-files '*.c' | xargs clang-format -i

clean:
	@rm -rf build

.PHONY: all test lab check sanitize fuzz bench bench-quick bench-sync python python-package test-torch install format clean
