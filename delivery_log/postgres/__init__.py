"""The ledger in PostgreSQL 15 and later. The statements stand in `delivery_log/sql/`, one a file."""
