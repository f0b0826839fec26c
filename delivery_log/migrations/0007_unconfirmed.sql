-- What was accepted and has not been confirmed: looked for every quarter of a minute. Small where webhooks come.
create index impact_deliveries_unconfirmed on impact_deliveries (platform, delivered_at)
    where status = 'delivered' and not mocked and (platform_status is null or platform_status = 'received');
