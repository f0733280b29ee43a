"""The synchronous client: the same objects as ``aio``, by the same names, for code without an event loop.

What lives here: blocking. What may not: decisions, routes. A client may be used by several threads; a producer or consumer
by one at a time.
"""
