with recursive

history as (

    select * from {{ ref('customer_history') }}
    where is_current

),

pressure as (

    select * from {{ ref('contact_pressure') }}

),

carts as (

    select * from {{ ref('fct_carts') }}
    where
        customer_id is not null
        and abandoned_at is not null

),

current_as_of as (

    select as_of from {{ ref('dim_as_ofs') }}
    where is_current

),

-- Only carts of the last days can be open, so only their owners' past carts matter.
cart_owners as (

    select distinct carts.customer_id
    from carts
    cross join current_as_of
    where
        carts.fate = 'abandoned'
        and {{ dbt.dateadd("hour", var('cart_open_hours'), "carts.abandoned_at") }} > current_as_of.as_of

),

abandonments as (

    select
        carts.customer_id,
        carts.abandoned_at,
        max(case when carts.fate = 'abandoned' then 1 else 0 end) as is_open,
        max(case when carts.fate = 'abandoned' then carts.amount_base end) as amount_base
    from carts
    inner join cart_owners
        on carts.customer_id = cart_owners.customer_id
    group by
        carts.customer_id,
        carts.abandoned_at

),

chained as (

    select
        customer_id,
        abandoned_at,
        is_open,
        amount_base,
        row_number() over (partition by customer_id order by abandoned_at) as position,
        min(abandoned_at) over (
            partition by customer_id
            order by abandoned_at
            range between interval '{{ var('cart_entry_days') }}' day following and unbounded following
        ) as next_entry_at
    from abandonments

),

-- A person enters at most once in so many days: from one entry to the first abandonment that may be another.
entries as (

    select
        customer_id,
        abandoned_at,
        is_open,
        amount_base,
        next_entry_at
    from chained
    where position = 1

    union all

    select
        chained.customer_id,
        chained.abandoned_at,
        chained.is_open,
        chained.amount_base,
        chained.next_entry_at
    from entries
    inner join chained
        on
            entries.customer_id = chained.customer_id
            and entries.next_entry_at = chained.abandoned_at

),

open_carts as (

    select
        entries.customer_id,
        entries.abandoned_at,
        entries.amount_base,
        row_number() over (partition by entries.customer_id order by entries.abandoned_at desc) as newness
    from entries
    cross join current_as_of
    where
        entries.is_open = 1
        and {{ dbt.dateadd("hour", var('cart_open_hours'), "entries.abandoned_at") }} > current_as_of.as_of

),

final as (

    select
        history.customer_id,
        history.as_of,
        history.as_of_on,
        history.engagement_state,
        history.is_engaged_by_mail,
        coalesce(pressure.last_chances >= {{ var('sunset_last_chances') }}, false) as is_sunset,
        history.activity_age_days,
        history.last_click_on,
        history.last_visit_on,
        history.delivered_180 as messages_delivered_180,
        history.opened_180 as messages_opened_180,
        history.clicked_180 as messages_clicked_180,
        history.click_rate,
        history.sessions_14,
        history.sessions_90,
        history.sessions_365,
        history.orders_180,
        history.orders_365,
        open_carts.customer_id is not null as has_abandoned_cart,
        open_carts.abandoned_at as cart_abandoned_at,
        open_carts.amount_base as cart_amount_base
    from history
    left join pressure
        on history.customer_id = pressure.customer_id
    left join open_carts
        on
            history.customer_id = open_carts.customer_id
            and open_carts.newness = 1

)

select * from final
