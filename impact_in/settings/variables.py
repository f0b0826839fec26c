"""The variables that belong to no platform, by name, with their defaults (contract, section 1).

What a later release does with a variable is checked now all the same: a typo should not wait for it.
"""

from datetime import timedelta
from typing import Annotated

from pydantic_settings import NoDecode

from delivery.retry_schedule import DEFAULT_DELAYS
from impact_in.settings import kinds
from impact_in.settings.sources import Environment


class Variables(Environment):
    """Named as in the environment, in lower case."""

    kafka_bootstrap_servers: kinds.Brokers | None = None
    kafka_security_protocol: kinds.SecurityProtocolName = "PLAINTEXT"
    kafka_sasl_mechanism: kinds.SaslMechanismName = "PLAIN"
    kafka_sasl_username: kinds.Text | None = None
    kafka_sasl_password: kinds.Secret | None = None
    kafka_ssl_cafile: kinds.Text | None = None
    schema_registry_url: kinds.HttpUrl | None = None

    database_url: kinds.DatabaseUrl | None = None
    redis_url: kinds.RedisUrl | None = None

    port_impact_in: kinds.Port = 3007
    impact_in_worker_port: kinds.Port = 3008
    impact_in_host: kinds.Host = "127.0.0.1"
    impact_in_api_keys: kinds.Secret | None = None
    impact_in_api_url: kinds.HttpUrl | None = None
    impact_in_api_key: kinds.Secret | None = None
    impact_in_max_connections: kinds.Count = 2000
    impact_in_webhook_rate: kinds.Count = 5000

    impact_in_env: kinds.Environment = "development"
    node_env: kinds.Text | None = None
    impact_in_instance: kinds.Instance | None = None
    impact_in_secrets: kinds.Text = "env"
    impact_in_allow_private_egress: kinds.Flag = False
    impact_in_topic_prefix: kinds.TopicPrefix = "impact."

    impact_in_dedupe_days: kinds.Count = 400
    impact_in_retry_delays: Annotated[kinds.Durations, NoDecode] = DEFAULT_DELAYS
    impact_in_delivery_deadline: kinds.Duration = timedelta(hours=24)
    impact_in_request_timeout: kinds.Duration = timedelta(seconds=30)
    impact_in_lease: kinds.Duration = timedelta(seconds=60)
    impact_in_session_timeout: kinds.Duration = timedelta(seconds=30)
    impact_in_drain_seconds: kinds.Seconds = timedelta(seconds=25)
    impact_in_confirm_within: kinds.Duration = timedelta(hours=24)
    # Not in the contract: how long a fetch waits for records. The embedded broker answers a fetch only when it is over.
    impact_in_fetch_wait: kinds.Duration = timedelta(milliseconds=500)
    # Not in the contract either: IMPACT_IN_INSTANCE names the leases all the same, but the group's members are dynamic.
    # The embedded broker lets a static member wait six seconds for its partitions.
    impact_in_static_membership: kinds.Flag = True

    log_level: kinds.Level = "info"
    otel_exporter_otlp_endpoint: kinds.HttpUrl | None = None
