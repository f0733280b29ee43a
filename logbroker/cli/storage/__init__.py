"""Offline tools on the files of a data directory: the one part of the command line that knows segment files.

All but ``repair`` only read, so they run beside a live broker too; what it is writing may then look unfinished.
"""
