-- A row is a customer whose stage, dated from the history of orders, is not the one that follows from the features: the
-- two would say different things of today.
select
    history.customer_id,
    history.lifecycle_stage,
    lifecycle.stage
from {{ ref('customer_history') }} as history
left join {{ ref('customer_lifecycle') }} as lifecycle
    on history.customer_id = lifecycle.customer_id
where
    history.is_current
    and (lifecycle.stage is null or history.lifecycle_stage != lifecycle.stage)
