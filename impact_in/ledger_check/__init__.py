"""Does the ledger hold? The equations of the project's guarantees, over topics, tables and what the platforms saw.

`equations` are pure functions over facts; `facts` reads those of Kafka and Postgres. An equation is named in a result
only where it was really checked.
"""

from impact_in.ledger_check.equations import Violation
from impact_in.ledger_check.facts import KafkaFacts, LedgerFacts, read_kafka, read_ledger

__all__ = ["KafkaFacts", "LedgerFacts", "Violation", "read_kafka", "read_ledger"]
