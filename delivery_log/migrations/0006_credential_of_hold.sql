-- Who sends with another credential is not held by what this one met.
alter table platform_holds add column credential text not null default '';
