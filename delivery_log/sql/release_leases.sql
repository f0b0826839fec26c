-- The owner's name stays in the row: begin then knows that an attempt never got its outcome.
update impact_deliveries
set lease_until = now(), updated_at = now()
where status in ('pending', 'retrying') and lease_owner = $1 and lease_epoch < $2 and lease_until > now()
returning 1
