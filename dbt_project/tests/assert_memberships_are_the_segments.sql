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

lacking as (

    select * from tables
    except
    select * from memberships

),

others as (

    select * from memberships
    except
    select * from tables

)

select * from lacking
union all
select * from others
