"""Compaction: of the records with one key only the last stays (Kafka's cleaner, KIP-58, KIP-354, KIP-534).

``plan`` says what is to be compacted, ``cleaner`` makes compacted copies of sealed segments beside them, ``worker`` does
so in a process of its own, ``swap`` puts the copies in their place. ``keys`` knows the last offset of each key,
``keeping`` decides which records stay, ``transactions`` how transactions ended.

What stays keeps its offset and its order; the active segment, and what is not decided or still needed, is never touched.
The last offset of a segment stays its last offset (an empty batch holds the place), so segments follow each other without
a gap and a tail that is missing is still seen. Within a compacted segment there are gaps, and fewer records in its digest
than offsets.
"""
