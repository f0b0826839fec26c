"""Do the equations of the project's guarantees hold? Judged over what four parties wrote down.

`facts` is what they say (publisher, witness, Kafka, PostgreSQL), `reading` fetches it, `expected` says what should have
become of each record by a table of its own, `equations` and `order` are pure functions that name what breaks them,
`history` tells a record's whole life, `verdict` puts it together, `report` shows it.

    python -m proving.checker --run DIRECTORY
"""
