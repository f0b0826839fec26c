select platform, status, outcome, platform_status, count(*)::integer as count
from impact_deliveries
group by platform, status, outcome, platform_status
order by platform collate "C", status collate "C", outcome collate "C" nulls first, platform_status collate "C" nulls first
