"""logbroker: one Python process, one durable log, several doors.

Only the public names and the version live here. Importing the package starts nothing: no event loop, no threads,
no environment reads, and no heavy dependency.
"""

__version__ = "0.1.0"
