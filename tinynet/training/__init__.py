"""Runs, and what is made of them: where they come from, what they say to pictures, how good they are."""
