with

customers as (

    select
        features.customer_id,
        features.as_of,
        features.as_of_on,
        features.activity_age_days,
        coalesce(features.activity_age_days > {{ var('engagement_lapsing_days') }}, true) as is_silent
    from {{ ref('feat_customers') }} as features
    inner join {{ ref('dim_as_ofs') }} as as_ofs
        on features.as_of = as_ofs.as_of
    where as_ofs.is_current

),

campaigns as (

    select * from {{ ref('dim_campaigns') }}

),

deliveries as (

    select
        customers.customer_id,
        email_events.identifier_id,
        email_events.campaign_id,
        email_events.send_id,
        email_events.event_id,
        -- A campaign that nobody described is taken to advertise.
        coalesce(campaigns.kind, 'promotional') = 'promotional' as is_promotional,
        customers.is_silent
        and coalesce(
            {{ dbt.datediff("email_events.occurred_on", "customers.as_of_on", "day") }}
            < customers.activity_age_days,
            true
        ) as is_unanswered,
        email_events.occurred_on,
        email_events.occurred_at,
        {{ dbt.datediff("email_events.occurred_on", "customers.as_of_on", "day") }} as age_days,
        customers.activity_age_days
    from {{ ref('fct_email_events') }} as email_events
    inner join customers
        on email_events.customer_id = customers.customer_id
    left join campaigns
        on email_events.campaign_id = campaigns.campaign_id
    where email_events.event_type = 'delivered'

),

by_customer as (

    select
        customer_id,
        max(case when is_promotional then occurred_at end) as last_promotional_at,
        sum(case when is_unanswered then 1 else 0 end) as unanswered
    from deliveries
    group by customer_id

),

-- Only what is looked at message by message: mail of the last days, and that of whoever may have become unengaged.
messages as (

    select
        deliveries.customer_id,
        coalesce(
            deliveries.send_id,
            deliveries.campaign_id || '|' || cast(deliveries.identifier_id as {{ dbt.type_string() }}),
            deliveries.event_id
        ) as message_id,
        deliveries.is_promotional,
        deliveries.is_unanswered and by_customer.unanswered > {{ var('unengaged_min_delivered') }} as is_weighed,
        deliveries.occurred_on,
        deliveries.age_days,
        deliveries.activity_age_days
    from deliveries
    inner join by_customer
        on deliveries.customer_id = by_customer.customer_id
    where
        deliveries.age_days <= 30
        or (deliveries.is_unanswered and by_customer.unanswered > {{ var('unengaged_min_delivered') }})

),

pressure as (

    select
        customer_id,
        count(distinct case when age_days <= 7 then message_id end) as promotional_7,
        count(distinct message_id) as promotional_30
    from messages
    where
        is_promotional
        and age_days <= 30
    group by customer_id

),

-- What has come since those who are silent were last heard of.
unanswered as (

    select
        customer_id,
        message_id,
        {{ dbt.bool_or('is_promotional') }} as is_promotional,
        min(occurred_on) as occurred_on,
        min(activity_age_days - age_days) as silent_days
    from messages
    where is_weighed
    group by
        customer_id,
        message_id

),

in_order as (

    select
        customer_id,
        is_promotional,
        occurred_on,
        silent_days,
        lag(occurred_on, {{ var('unengaged_min_delivered') }}) over (
            partition by customer_id
            order by occurred_on
        ) as earlier_on
    from unanswered

),

-- The first message of a day decides for all of it: enough came in the days before, which the last row of them tells.
days as (

    select
        customer_id,
        sum(case when is_promotional then 1 else 0 end) as promotional_messages
    from in_order
    group by
        customer_id,
        occurred_on
    having
        coalesce(min(silent_days) > {{ var('engagement_lapsing_days') }}, true)
        and count(*) = count(earlier_on)
        and {{ dbt.datediff("min(earlier_on)", "occurred_on", "day") }} <= {{ var('engagement_lapsing_days') }}

),

last_chances as (

    select
        customer_id,
        sum(promotional_messages) as last_chances
    from days
    group by customer_id

),

final as (

    select
        customers.customer_id,
        customers.as_of,
        customers.as_of_on,
        cast(coalesce(pressure.promotional_7, 0) as integer) as promotional_7,
        cast(coalesce(pressure.promotional_30, 0) as integer) as promotional_30,
        by_customer.last_promotional_at,
        cast(coalesce(last_chances.last_chances, 0) as integer) as last_chances
    from customers
    left join by_customer
        on customers.customer_id = by_customer.customer_id
    left join pressure
        on customers.customer_id = pressure.customer_id
    left join last_chances
        on customers.customer_id = last_chances.customer_id

)

select * from final
