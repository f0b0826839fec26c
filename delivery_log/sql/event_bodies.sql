select id, body, topic, "partition", "offset" from impact_events where id = any($1::uuid[]) and body is not null
