"""Everything a client can ask of a broker, as values: one class a call, which knows its HTTP request and its answer.

What lives here: the calls and the values they answer with. What may not: sockets, event loops, waiting, retries.
Invariant: a call is data. Whoever carries it (over HTTP or in this process) answers with the same values and errors.
"""
