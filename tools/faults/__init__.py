"""Long runs of the crash harnesses, and the report of what they showed; ``python -m tools.faults``."""
