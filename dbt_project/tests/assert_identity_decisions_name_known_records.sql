{{ config(severity="warn") }}

-- A failure means that a row of the seed identity_decisions names a record that is not known (or the same one twice),
-- and so decides nothing: look for a slip in it. An email or phone is a record only if it was seen without a shop
-- number or CRM contact beside it; else name whom it was seen with.
select
    left_id,
    right_id,
    decision,
    decided_on
from {{ ref("int_identity_decisions") }}
where not is_known
