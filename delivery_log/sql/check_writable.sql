-- On also where the server is a standby, or was made read-only.
select current_setting('transaction_read_only') = 'off' as writable
