"""Transactions over many partitions and the offsets of groups (KIP-98, KIP-360, KIP-447).

One machine per transactional id (``machine``), in a journal of its own; ``coordinator`` is the shell that writes the
markers.

How a transaction ends, and why a crash at any point leaves it whole or gone:

1. ``Prepared`` is journalled and *flushed*: from here on the outcome is fixed;
2. a marker is written and flushed in each partition, and told to each group; in any order, and again after a crash, since
   who has been told already does nothing;
3. ``Completed`` is journalled. Only now may the producer begin the next one.

A load finds a transaction before 1 (open: it ends by its producer or, in an abort, by its time-out) or between 1 and 3
(step 2 is done again).
"""
