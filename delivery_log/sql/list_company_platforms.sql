select company_id, platform, organization_id, enabled
from company_platforms
where $1::uuid is null or company_id = $1
order by company_id, platform collate "C"
