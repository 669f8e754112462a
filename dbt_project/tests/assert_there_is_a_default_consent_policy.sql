-- A failure means that people of a country without a row of its own fall under no rule, and so would never be sendable.
select count(*) as default_policies
from {{ ref('consent_policies') }}
where country_code = '*'
having count(*) != 1
