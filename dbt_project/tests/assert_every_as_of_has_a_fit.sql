-- A row is an as_of of the spine without a repurchase gap: customer_history would lack everyone there.
select as_ofs.as_of
from {{ ref('dim_as_ofs') }} as as_ofs
left join {{ ref('lifecycle_thresholds') }} as thresholds
    on as_ofs.as_of = thresholds.as_of
where thresholds.gap_days is null
