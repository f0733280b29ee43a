"""Benchmarks of logbroker, alone and beside other servers; ``python -m tools.bench NAME`` runs one."""
