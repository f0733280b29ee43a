"""A broker in process, with the same verbs as over a network: the calls of ``logbroker.client`` on ``broker.services``."""

from logbroker.embedded.broker import Broker

__all__ = ["Broker"]
