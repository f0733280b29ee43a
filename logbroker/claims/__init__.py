"""Claim check: large payloads in a store beside the log, and small references to them in records."""
