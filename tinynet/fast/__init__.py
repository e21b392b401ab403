"""Speed put on from outside: neighbouring layers in one pass over memory."""

import tinynet.layers  # noqa: F401 - first, whichever is asked for first: Sequential looks here
