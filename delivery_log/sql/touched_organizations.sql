select distinct organization_id from company_platforms
where platform = $1 and organization_id = any($2::text[]) and updated_at > now() - make_interval(secs => $3)
