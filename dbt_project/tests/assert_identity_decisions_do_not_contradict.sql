-- A failure means that the seed identity_decisions both links and splits the same two records, so that nobody knows
-- what the steward wants: take one of the rows out.
select
    left_id,
    right_id
from {{ ref("int_identity_decisions") }}
group by
    left_id,
    right_id
having count(distinct decision) > 1
