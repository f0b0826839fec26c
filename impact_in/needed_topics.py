"""The topics without which no worker starts."""

from impact_in.errors import StartError
from impact_in.operations.topics import partition_counts
from impact_in.settings import Settings


async def needed_topics(settings: Settings) -> dict[str, int]:
    """Each with its partition count. Makes none and answers within 3 s; raises KafkaUnavailable, and StartError naming
    one that is missing."""
    topics = settings.topics
    needed = [topics.metrics, topics.metrics_dlt]
    for platform in settings.platforms:
        needed += [topics.deliveries(platform), topics.deliveries_dlt(platform)]
        needed += [topics.retry(platform, delay) for delay in settings.retry.topics()]
    counts = await partition_counts(settings.kafka, needed)
    for name in needed:
        if name not in counts:
            raise StartError(f"topic {name} is missing; run `impact-in topics`")
    return counts
