"""The witness: the simulated platforms of `impact_in.simulators`, under the conditions of a proof.

They are a process of their own and share no code with the product. Each receipt is on disk, synced, before its request
is answered; which fault a request meets is computed from seed, key and attempt alone (docs/simulators.md). Two
personalities: `keys` honours `Idempotency-Key` (same key: same answer, one effect), `counts` lets every request have
its effect.
"""
