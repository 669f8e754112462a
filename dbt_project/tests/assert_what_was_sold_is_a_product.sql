-- A failure means that a line that stands at the as_of is of a product that dim_products lacks.
select distinct lines.product_id
from {{ ref("int_order_lines") }} as lines
left join {{ ref("dim_products") }} as products on lines.product_id = products.product_id
where products.product_id is null and {{ stands_at("lines", clock_as_of()) }}
