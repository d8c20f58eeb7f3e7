# Splitmerge. Two commands do everything on a fresh machine: `make demo` and `make test`.
VENV ?= .venv
PY = $(VENV)/bin/python
TARGET ?= embedded
PUNT ?= packet-in
ARGS ?=
PACKAGES = splitmerge p4switch p4rt_controller guestlib orchestrator middleboxes topo traffic p4src model chaos experiments

FIGURES = fig8 fig9 fig10 fig11 fig12 fig13 fig14 fig15

.DEFAULT_GOAL := help
.PHONY: help demo test setup lint fmt unit integ ptf p4 p4-check shell bench bench-switch bench-migration bench-punt bench-guestlib soak soak-moves vm-image bench-vmm chaos model figures $(FIGURES) cov clean

help:            ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 16

$(VENV)/.ready: requirements.lock pyproject.toml tools/setup
	@tools/setup $(VENV)

setup: $(VENV)/.ready  ## the virtual environment with all that is needed

demo: $(VENV)/.ready   ## the paper's §4.1 verification: real flows move, nothing is lost (TARGET=bmv2, ARGS='--json FILE')
	@$(PY) -m splitmerge demo --target $(TARGET) $(ARGS)

test: $(VENV)/.ready   ## lint, types, unit, property, integration and PTF tests
	@$(PY) tools/test $(ARGS)

lint: $(VENV)/.ready   ## ruff and mypy --strict
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

fmt: $(VENV)/.ready    ## format the code
	@$(PY) -m ruff format . && $(PY) -m ruff check --fix .

unit: $(VENV)/.ready   ## tests that need no privileges and no sockets of the kernel's
	@$(PY) -m pytest -m "not integ" $(ARGS)

integ: $(VENV)/.ready  ## tests in network namespaces, with real processes
	@$(PY) -m pytest -m integ $(ARGS)

ptf: $(VENV)/.ready    ## PTF packet tests (TARGET=bmv2: on simple_switch_grpc; PUNT=ethernet; TEST=steering.Tcp4: one)
	@$(PY) -m ptf_tests.run --target $(TARGET) --punt $(PUNT) $(TEST)

p4: $(VENV)/.ready     ## compile p4src/ with p4c-bm2-ss and record what was compiled
	@$(PY) -m p4src build

p4-check: $(VENV)/.ready  ## do the committed outputs fit the sources?
	@$(PY) -m p4src check

shell: $(VENV)/.ready  ## p4runtime-shell, in an environment of its own, on the running lab's switch
	@$(PY) -m splitmerge shell $(ARGS)

bench: bench-guestlib bench-switch  ## all benchmarks

bench-switch: $(VENV)/.ready  ## the switch beside its peers (simple_switch_grpc where it is on PATH): build/bench-switch.json
	@$(PY) -m benchmarks.bench_switch $(ARGS)

bench-punt: $(VENV)/.ready  ## packets into the controller's buffers, P4Runtime against a punt port: build/bench-punt.json
	@$(PY) -m benchmarks.bench_punt $(ARGS)

bench-guestlib: $(VENV)/.ready  ## the guest library beside a plain dict, time and memory: build/bench-guestlib.json
	@$(PY) -m benchmarks.guestlib_cost $(ARGS)

bench-migration: $(VENV)/.ready  ## what moves cost: times, latency, TCP throughput: build/bench-migration.json (ARGS=--quick)
	@$(PY) -m benchmarks.bench_migration $(ARGS)

soak: $(VENV)/.ready   ## a hundred million packets through the native back end, each accounted for, memory flat
	@$(PY) -m benchmarks.soak $(ARGS)

soak-moves: $(VENV)/.ready  ## ten thousand random moves under load, some called off, each datagram accounted for: build/moves-ledger.json (TARGET=bmv2)
	@$(PY) -m benchmarks.moves_ledger --target $(TARGET) $(ARGS)

chaos: $(VENV)/.ready  ## every component struck in every step of a move, then a sample with three switches: docs/reliability.md (TARGET=bmv2, ARGS=--sample, ARGS='--topology three-switches --jobs 1')
	@mkdir -p build; status=0; $(PY) -m chaos --jobs 3 --target $(TARGET) --json build/chaos.json --write $(ARGS) || status=1; \
	$(if $(ARGS),,$(PY) -m chaos --target $(TARGET) --topology three-switches --sample --json build/chaos-three-switches.json --write || status=1;) exit $$status

model: $(VENV)/.ready  ## every interleaving of a move with a crash, searched; each rule left out must break it (docs/model.md)
	@$(PY) -m model $(ARGS) && mkdir -p build && $(PY) -m model --without each >build/model-counterexamples.txt && $(PY) -m model --pairs --packets 2

bench-vmm: $(VENV)/.ready vm-image  ## scale-out to first packet: process, machine restored, machine booted: build/bench-vmm.json (root)
	@$(PY) -m benchmarks.bench_vmm

vm-image: $(VENV)/.ready  ## the image of replicas as virtual machines (ARGS='--middlebox MODULE:CLASS'): build/vm-image
	@$(PY) -m orchestrator.vmm.image --output build/vm-image $(ARGS)

figures: $(VENV)/.ready  ## the paper's §5 repeated: build/figures/fig8 … fig15 (hours; goes on where it stopped; ARGS='--runs 5 --time-scale 1')
	@$(PY) -m experiments --target $(TARGET) $(ARGS)

$(FIGURES): fig%: $(VENV)/.ready
	@$(PY) -m experiments $* --target $(TARGET) $(ARGS)

cov: $(VENV)/.ready    ## coverage of the unit tests
	@$(PY) -m pytest -m "not integ" --cov --cov-report=term-missing:skip-covered $(ARGS)

clean:           ## remove what was built here
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks
