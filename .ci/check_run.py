"""Check that a finished run of the example learnt what the README promises, by the last line of its log.jsonl."""

import argparse
import json
import sys
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("folder", type=Path)
parser.add_argument("--max-error", type=float, required=True, help="largest validation top-1 error allowed, a fraction")
options = parser.parse_args()

final = json.loads((options.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
print(final)
if final["event"] != "final" or not final["val_top1_error"] <= options.max_error:
    sys.exit(f"expected a finished run with val_top1_error <= {options.max_error}")
