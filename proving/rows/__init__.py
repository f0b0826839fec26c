"""The rows of the fault table, an area a module."""

from collections.abc import Sequence

from proving.row import Row
from proving.rows import kafka, postgres, redis, worker

ROWS: Sequence[Row] = (*worker.ROWS, *kafka.ROWS, *redis.ROWS, *postgres.ROWS)
