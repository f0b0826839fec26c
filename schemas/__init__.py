"""The vocabulary: what an event, a delivery request, a header and a topic are called and look like.

Imports nothing else of ours, so that upstream services can import it to publish.
"""

from schemas.avro import encode_single_object
from schemas.event import ImpactMetricEvent, MetricEntry, content_hash
from schemas.reading import Unreadable, UnreadableKind, decode
from schemas.topics import Topics

__all__ = [
    "ImpactMetricEvent",
    "MetricEntry",
    "Topics",
    "Unreadable",
    "UnreadableKind",
    "content_hash",
    "decode",
    "encode_single_object",
]
