-- A failure means that segment_memberships lacks customers of a segment's table, holds others, or holds somebody who is
-- no customer.
with

customers as (

    select customer_id from {{ ref('dim_customers') }}

),

memberships as (

    select * from {{ ref('segment_memberships') }}

),

tables as (

    {% for segment in segment_models() %}
    select
        members.customer_id,
        '{{ segment.removeprefix("seg_") }}' as segment
    from {{ ref(segment) }} as members
    inner join customers
        on members.customer_id = customers.customer_id
    {% if not loop.last %}union all{% endif %}
    {% endfor %}

),

compared as (

    select
        coalesce(memberships.customer_id, tables.customer_id) as customer_id,
        coalesce(memberships.segment, tables.segment) as segment
    from memberships
    full outer join tables
        on
            memberships.customer_id = tables.customer_id
            and memberships.segment = tables.segment
    where
        memberships.customer_id is null
        or tables.customer_id is null

)

select
    customer_id,
    segment
from compared
