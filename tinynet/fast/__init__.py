"""Speed put on from outside: which loops and kernels run in the place of a layer's own lines, and when.

`single` has a twin for each layer, `neighbours` the passes over several, `identity` says whether a layer is what its
twin was written for, and `plan` puts them together for a pass.
"""
