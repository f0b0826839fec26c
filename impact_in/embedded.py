"""What a worker has to know of the embedded broker (facts/embedded.md, and measured: `tests/streams`)."""

EMBEDDED_BROKER = {
    # It answers a waiting fetch only when the wait is over, so this wait is the latency.
    "IMPACT_IN_FETCH_WAIT": "20ms",
    # It lets a static member wait three seconds in each of two steps, a dynamic one two in all.
    "IMPACT_IN_STATIC_MEMBERSHIP": "false",
    # And so a worker that was killed holds its partitions no longer than this.
    "IMPACT_IN_SESSION_TIMEOUT": "4s",
}
