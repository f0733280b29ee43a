"""Runs the lease machines of a queue: the async shell between the doors and the pure machine.

Reading order: ``mover`` (copies), ``partition`` (one machine and its topics), ``bell`` (long polls), ``tally`` (what is
counted), ``watch`` (what wakes a long poll), ``upkeep`` (what may be deleted), ``dispatcher`` (the verbs that join them).
"""

from logbroker.queues.dispatcher.definition import Definition, View
from logbroker.queues.dispatcher.dispatcher import Dispatcher
from logbroker.queues.dispatcher.receiving import Received, Want
from logbroker.queues.dispatcher.sending import Sent
from logbroker.queues.dispatcher.streaming import Stream

__all__ = ["Definition", "Dispatcher", "Received", "Sent", "Stream", "View", "Want"]
