-- A failure means that somebody is in segment_memberships who neither qualifies nor was a member in an earlier release,
-- that somebody who qualifies and never left is not in it, or that it holds somebody who is no customer.
with

customers as (

    select customer_id from {{ ref('dim_customers') }}

),

memberships as (

    select * from {{ ref('segment_memberships') }}

),

changes as (

    select * from {{ ref('stg_releases__membership_changes') }}

),

tables as (

    {% for segment in segments_in_force() %}
    select
        members.customer_id,
        '{{ segment.removeprefix("seg_") }}' as segment
    from {{ ref(segment) }} as members
    inner join customers
        on members.customer_id = customers.customer_id
    union all
    {% endfor %}
    select
        cast(null as {{ dbt.type_string() }}) as customer_id,
        cast(null as {{ dbt.type_string() }}) as segment
    where false

),

compared as (

    select
        coalesce(memberships.customer_id, tables.customer_id) as customer_id,
        coalesce(memberships.segment, tables.segment) as segment,
        case when memberships.customer_id is null then 'left' else 'entered' end as explained_by
    from memberships
    full outer join tables
        on
            memberships.customer_id = tables.customer_id
            and memberships.segment = tables.segment
    where
        memberships.customer_id is null
        or tables.customer_id is null

),

unexplained as (

    select
        compared.customer_id,
        compared.segment
    from compared
    left join changes
        on
            compared.customer_id = changes.customer_id
            and compared.segment = changes.segment
            and compared.explained_by = changes.change
    where changes.customer_id is null

),

strangers as (

    select
        memberships.customer_id,
        memberships.segment
    from memberships
    left join customers
        on memberships.customer_id = customers.customer_id
    where customers.customer_id is null

),

failures as (

    select * from unexplained
    union all
    select * from strangers

)

select
    customer_id,
    segment
from failures
