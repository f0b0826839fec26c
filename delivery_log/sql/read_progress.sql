select topic, "partition", extract(epoch from now() - read_up_to)::float8 as age
from reader_progress
where topic = any($1::text[]) and updated_at > now() - make_interval(secs => $2)
