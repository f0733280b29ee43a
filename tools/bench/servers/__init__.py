"""The servers logbroker is measured beside: one module each, with one context manager that starts and stops it.

Every server listens on free loopback ports only, keeps its files in the directory it is given, and is ended by its own
process id. ``Missing`` says that a program is not on this machine and how to get it.
"""
