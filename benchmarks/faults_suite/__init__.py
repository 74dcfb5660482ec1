"""The fault suite: faults and bad inputs, tried through the commands of the package. See `benchmarks/faults.py`."""
