-- A broker confirmed these hops. Rows whose record was met by begin already know it.
update impact_deliveries d
set published_hop = p.hop, unannounced = false
from unnest($1::uuid[], $2::integer[]) as p (id, hop)
where d.id = p.id and d.hop = p.hop and d.published_hop < p.hop
