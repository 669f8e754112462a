select customer_id
from {{ ref('customer_360') }}
where
    value_tier in ('top', 'high')
    and frequency >= 2
    and age_band = '25-34'
    and region_type = 'urban'
