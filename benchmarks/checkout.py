"""Importing this first makes `import tinynet` find the checkout that this file lies in, where none is installed."""

import importlib.util
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

found = importlib.util.find_spec("tinynet")
if found is None or found.origin is None:  # a mere folder of that name, which an editable install may leave, is none
    sys.path.insert(0, str(ROOT))
    # for the processes to come, too
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
