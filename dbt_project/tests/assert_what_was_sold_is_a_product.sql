-- A failure means that a line that stands at the as_of is of a product that dim_products lacks.
select distinct lines.product_id
from {{ ref("int_order_lines") }} as lines
inner join {{ ref("stg_lake__clock") }} as clock on {{ stands_at("lines", "clock.as_of") }}
left join {{ ref("dim_products") }} as products on lines.product_id = products.product_id
where products.product_id is null
