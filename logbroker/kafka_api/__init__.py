"""Door 2: the Kafka protocol over TCP.

Read in this order: `server` (sockets), `connection` (frames in, replies out in order), `answers` (what a handler gives
back), `registry` (which handler serves which API), then one handler file per request family; `errors` has the one table
from our errors to Kafka's numbers.
"""
