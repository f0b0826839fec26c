"""The heart: what happens to an event and to a delivery, in plain asyncio.

It talks to contracts (`ports`, `delivery_log.contract`, `connectors.contract`, `guards.contract`) and knows neither
Faust nor HTTP nor Postgres.
"""
