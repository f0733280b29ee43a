"""Adapters for frameworks, each an optional extra: ``logbroker[taskiq]``, ``logbroker[dramatiq]``."""
