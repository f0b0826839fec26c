-- Rebuilding a quota's windows asks for the attempts of the last day. Attempts are written in about the order of their
-- time, so a block range index is enough: it is tiny, and costs a write next to nothing.
create index delivery_attempts_by_start on delivery_attempts using brin (started_at) with (autosummarize = on);
