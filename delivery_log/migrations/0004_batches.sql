-- All members of a batch, finished ones too: what goes again is the whole of it.
create index impact_deliveries_by_batch on impact_deliveries (batch_id) where batch_id is not null;
