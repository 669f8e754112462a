-- A failure means that rows of a delivery are neither accepted, superseded, rejected nor erased.
select
    delivery_id,
    source,
    table_name
from {{ ref("stg_lake__deliveries") }}
where rows_read <> rows_accepted + rows_superseded + rows_rejected + rows_erased
