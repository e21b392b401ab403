"""What all tests share."""

import os

from hypothesis import HealthCheck, settings

# a fixed choice of examples where a failure must be repeatable by pushing again; a fresh one at everyone's desk
settings.register_profile(
    "tinynet",
    max_examples=50,
    deadline=None,
    derandomize="CI" in os.environ,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tinynet")
