"""The training loop and all around it: steps, records, the run's folder, evaluation, the screen."""
