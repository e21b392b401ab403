"""Files: written whole or not at all; weights and checkpoints."""
