"""The Kafka protocol without I/O.

Read in this order: `framing` and `header` (bytes to requests), `apis` (what is spoken), `primitives` (how values look on
the wire), then the two hot APIs written by hand, `produce` and `fetch`, and `schema` for all others (with `definitions`,
`decoder` and `encoder` underneath). `codes` has the error numbers.
"""
