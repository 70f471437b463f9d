# `make demo` and `make test` work on a fresh x86-64 Linux machine with Python 3.11 to 3.13 and headers, make, gcc and
# g++. They need no ROS install and no GPU. The first run installs everything into .venv, and later runs reuse it.

VENV := .venv
DEMO_OUTPUT ?= out/demo
SITE := out/site
FUZZ_SECONDS ?= 600
# The first suitable interpreter, unless the caller names one: make demo PYTHON=/usr/bin/python3.12
ifndef PYTHON
PYTHON := $(shell for name in python3 python3.13 python3.12 python3.11; do $$name -c \
	'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$name && exit; done; echo python3)
endif
# Index where pip looks for torch first. Without an NVIDIA driver this is the CPU build, a tenth of the usual download.
TORCH_INDEX ?= $(if $(shell command -v nvidia-smi),,https://download.pytorch.org/whl/cpu)

# Keep a ROS environment that the caller sourced away from the wheels of .venv, and this graph away from a vehicle's.
unexport PYTHONPATH PYTHONHOME LD_LIBRARY_PATH LD_PRELOAD _ROS_WHEELS_BOOTSTRAP_COMPLETE
unexport AMENT_PREFIX_PATH AMENT_CURRENT_PREFIX CMAKE_PREFIX_PATH COLCON_PREFIX_PATH COLCON_CURRENT_PREFIX
unexport ROS_DISTRO ROS_VERSION ROS_PYTHON_VERSION ROS_HOME ROS_LOG_DIR ROS_NAMESPACE ROS_PACKAGE_PATH
unexport ROS_DOMAIN_ID ROS_LOCALHOST_ONLY ROS_AUTOMATIC_DISCOVERY_RANGE ROS_STATIC_PEERS ROS_DISCOVERY_SERVER
unexport ROS_SUPER_CLIENT ROS_SECURITY_ENABLE ROS_SECURITY_STRATEGY ROS_SECURITY_KEYSTORE ROS_SECURITY_ENCLAVE_OVERRIDE
unexport RMW_IMPLEMENTATION RMW_FASTRTPS_USE_QOS_FROM_XML RMW_FASTRTPS_PUBLICATION_MODE CYCLONEDDS_URI ZENOH_CONFIG_OVERRIDE
unexport FASTRTPS_DEFAULT_PROFILES_FILE FASTDDS_DEFAULT_PROFILES_FILE FASTDDS_BUILTIN_TRANSPORTS SKIP_DEFAULT_XML
unexport RCUTILS_LOGGING_USE_STDOUT RCUTILS_LOGGING_BUFFERED_STREAM RCUTILS_CONSOLE_OUTPUT_FORMAT RCUTILS_COLORIZED_OUTPUT
# Keep compiled modules on disk. Without them each process compiles all that it imports: 12 s of CPU time for a process
# that trains, 5 s with them.
unexport PYTHONDONTWRITEBYTECODE

# `make coverage` counts which lines of ros_kd_perception/ the tests run, also in the processes that they start. Counting
# slows Python down, so tests that measure time do without. Those of training run other code.
COVERAGE_PERCENT_MIN := 90
COUNTED := not slow and not training and not alone
UNCOUNTED := slow or training or alone
# Python has a cheaper way of counting since 3.12.
SYSMON := $(shell $(VENV)/bin/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")' 2>/dev/null)
ifneq ($(SYSMON),)
export COVERAGE_CORE ?= $(SYSMON)
endif

PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --no-input -qq
PYTEST := $(VENV)/bin/python -m pytest --numprocesses 2 --dist worksteal
MESSAGES := $(wildcard ros_kd_perception/interfaces/vision_msgs/*.msg) ros_kd_perception/interfaces/build_vision_msgs.py

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo check test test-all coverage test-uncounted fuzz lint docs dist bill clean distclean environment

help:
	@echo 'make demo       render a drive, run the node on a real ROS 2 graph, write $(DEMO_OUTPUT)/report.html'
	@echo '                BAG=PATH plays your own bag; CAMERAS="front=/cam0/image_raw ..." names its camera topics;'
	@echo '                DEMO_OPTIONS=... are passed to the demo'
	@echo 'make check      lint, then the tests that need neither a ROS graph nor torch: less than 3 minutes on 2 cores'
	@echo 'make test       run every test but the slow ones, the ROS graph and training included: less than 15 minutes;'
	@echo '                PYTEST_OPTIONS=... are passed to pytest'
	@echo 'make test-all   run every test, the slow ones included'
	@echo 'make coverage   run the tests without those of training, of time and the slow ones; print the lines of'
	@echo '                ros_kd_perception/ that none ran, and fail if fewer than $(COVERAGE_PERCENT_MIN) % were run'
	@echo 'make test-uncounted  run the tests that make coverage leaves out'
	@echo 'make fuzz       feed images, bags, models and contracts that nobody made, for FUZZ_SECONDS=$(FUZZ_SECONDS)'
	@echo 'make lint       ruff, its formatter and mypy'
	@echo 'make docs       build the documentation site into $(SITE)/index.html; a broken link fails'
	@echo 'make dist       build the wheel and the sdist of a release into dist/'
	@echo 'make bill       write the bill of materials of a release (CycloneDX) into dist/'
	@echo 'make clean      remove the files of builds, tests and the demo; make distclean also removes .venv'
	@echo 'PYTHON=...      the interpreter for .venv ($(PYTHON))'
	@echo 'TORCH_INDEX=... the index where make test looks for torch first ($(TORCH_INDEX))'

demo: environment
	@$(VENV)/bin/python -m ros_kd_perception.demo --output '$(DEMO_OUTPUT)' $(if $(BAG),--bag '$(BAG)') \
		$(foreach camera,$(CAMERAS),--camera '$(camera)') $(DEMO_OPTIONS)

check: lint
	$(PYTEST) -m 'not graph and not training and not slow' $(PYTEST_OPTIONS)

test: environment $(VENV)/.test-installed
	$(PYTEST) -m 'not slow' $(PYTEST_OPTIONS)

test-all: environment $(VENV)/.test-installed
	$(PYTEST) $(PYTEST_OPTIONS)

coverage: environment $(VENV)/.test-installed
	@rm -f .coverage .coverage.*
	$(PYTEST) -m '$(COUNTED)' --cov --cov-report= $(PYTEST_OPTIONS)
	@$(VENV)/bin/python -m coverage report --sort miss --fail-under $(COVERAGE_PERCENT_MIN)

test-uncounted: environment $(VENV)/.test-installed
	$(PYTEST) -m '$(UNCOUNTED)' $(PYTEST_OPTIONS)

fuzz: environment $(VENV)/.test-installed $(VENV)/.fuzz-installed
	$(VENV)/bin/python tests/fuzz/fuzz.py --seconds $(FUZZ_SECONDS) $(foreach target,$(FUZZ_TARGETS),--target $(target))

lint: environment $(VENV)/.test-installed
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m mypy

# The variable switches off an advertisement of the theme.
docs: $(VENV)/.docs-installed
	@NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict
	@echo 'Wrote $(SITE)/index.html. Its search needs a server: $(VENV)/bin/python -m http.server -d $(SITE)'

dist: $(VENV)/.release-installed
	@rm -rf dist
	@$(VENV)/bin/python -m build --no-isolation --outdir dist .

bill: environment $(VENV)/.test-installed
	@$(VENV)/bin/python -m training bill-of-materials -o dist/ros_kd_perception.cdx.json

environment: $(VENV)/.messages-built

# Check for everything that a fresh machine may lack; print one sentence if it is missing.
$(VENV)/.created:
	@[ "$$(uname -sm)" = 'Linux x86_64' ] || { echo "make: ROS 2 wheels exist for x86-64 Linux only but this is \
	$$(uname -sm); use a ROS install instead, see docs/vehicle.md." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "make: expected Python 3.11, \
	3.12 or 3.13 but '$(PYTHON)' is $$($(PYTHON) -V 2>&1); install one and name it: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig as s; sys.exit(not os.path.isfile(s.get_paths()["include"] + "/Python.h"))' || { \
	echo "make: $(PYTHON) has no headers (Python.h); install them, e.g. sudo apt install python3-dev." >&2; exit 1; }
	@command -v $${CC:-gcc} >/dev/null && command -v $${CXX:-g++} >/dev/null || { \
	echo "make: found no gcc and g++; install them, e.g. sudo apt install build-essential." >&2; exit 1; }
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
	echo "make: $(PYTHON) cannot create a virtual environment; install venv, e.g. sudo apt install python3-venv." >&2; exit 1; }
	@touch $@

$(VENV)/.demo-installed: $(VENV)/.created setup.py setup.cfg constraints.txt
	@echo 'Installing the packages of the demo into $(VENV), about half a minute from a warm cache ...'
	@$(PIP) install --no-compile -c constraints.txt -e '.[cpu,bag,ros,report]'
	@touch $@

$(VENV)/.messages-built: $(VENV)/.demo-installed $(MESSAGES)
	@$(VENV)/bin/python -m ros_kd_perception.interfaces.build_vision_msgs
	@touch $@

$(VENV)/.test-installed: $(VENV)/.demo-installed
	@echo 'Installing the packages of training and the tests, including torch, into $(VENV) ...'
	@[ -z '$(TORCH_INDEX)' ] || $(PIP) install --no-compile --retries 0 -c constraints.txt -i '$(TORCH_INDEX)' torch 2>/dev/null \
		|| echo 'Found no torch at $(TORCH_INDEX); using the default index.'
	@$(PIP) install --no-compile -c constraints.txt -e '.[cpu,bag,ros,report,training,test]'
	@touch $@

$(VENV)/.docs-installed: $(VENV)/.created setup.py setup.cfg constraints.txt
	@echo 'Installing what the documentation site needs into $(VENV) ...'
	@$(PIP) install --no-compile -c constraints.txt -e '.[docs]'
	@touch $@

$(VENV)/.fuzz-installed: $(VENV)/.created setup.py setup.cfg constraints.txt
	@$(PIP) install --no-compile -c constraints.txt -e '.[fuzz]'
	@touch $@

$(VENV)/.release-installed: $(VENV)/.created setup.py setup.cfg constraints.txt
	@$(PIP) install --no-compile -c constraints.txt -e '.[release]'
	@touch $@

clean:
	rm -rf build install log dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.* out/demo $(SITE)
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
