# Small scripts do the work; see scripts/.
.PHONY: setup demo test check soak bench clean

setup:          ; @scripts/setup
demo: setup     ; @.venv/bin/fairlead demo $(ARGS)
test: setup     ; @scripts/test $(ARGS)
check: setup    ; @scripts/check
soak: setup     ; @scripts/soak $(ARGS)
bench: setup    ; @PYTHON=.venv/bin/python scripts/bench $(ARGS)
clean:          ; rm -rf build .venv .cache/build *.egg-info src/*.egg-info
