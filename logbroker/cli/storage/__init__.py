"""Offline tools on the files of a data directory: the one part of the command line that knows segment files.

They only read, so they run beside a live broker too; what it is writing at that moment may then look unfinished.
"""
