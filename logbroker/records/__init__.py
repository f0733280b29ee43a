"""Bytes to records and back: batch headers, the record codec, compression, the partition of a key. Pure."""
