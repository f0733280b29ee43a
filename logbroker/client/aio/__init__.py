"""The asynchronous client: thin objects over the calls and flows of ``logbroker.client``.

What lives here: awaiting. What may not: decisions, routes. The objects are the same over HTTP and in process; only the
carrier differs.
"""
