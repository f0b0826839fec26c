"""The ledger: what was asked for, what was tried and what became of it. Postgres is the truth; `memory` its twin."""
