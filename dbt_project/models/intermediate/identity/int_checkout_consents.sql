with

versions as (
    select
        source,
        order_id,
        case
            when accepts_marketing and (status is null or status not in ('test', 'fraud')) then email
        end as email,
        ordered_at,
        known_at,
        superseded_at
    from {{ ref("int_order_document_versions") }}
    where known_at < {{ clock_as_of() }}
),

redelivered as (
    select distinct
        source,
        order_id
    from versions
    where superseded_at is not null
),

-- Where a version says the same as the one before it, the consent goes on.
marked as (
    select
        versions.*,
        case
            when
                lag(versions.email) over (
                    partition by versions.source, versions.order_id order by versions.known_at
                ) = versions.email
                and lag(versions.ordered_at) over (
                    partition by versions.source, versions.order_id order by versions.known_at
                ) = versions.ordered_at
                then 0
            else 1
        end as is_start
    from versions
    inner join redelivered
        on versions.source = redelivered.source and versions.order_id = redelivered.order_id
),

numbered as (
    select
        *,
        sum(is_start) over (partition by source, order_id order by known_at) as span
    from marked
),

spans as (
    select
        source,
        order_id,
        email,
        ordered_at,
        min(known_at) as known_at,
        case when count(superseded_at) = count(*) then max(superseded_at) end as superseded_at
    from numbered
    where email is not null
    group by
        source,
        order_id,
        span,
        email,
        ordered_at

    union all

    select
        versions.source,
        versions.order_id,
        versions.email,
        versions.ordered_at,
        versions.known_at,
        versions.superseded_at
    from versions
    left join redelivered
        on versions.source = redelivered.source and versions.order_id = redelivered.order_id
    where versions.email is not null and redelivered.order_id is null
),

consents as (
    select
        source || '|' || order_id as order_key,
        email,
        ordered_at,
        known_at,
        superseded_at
    from spans
)

select * from consents
