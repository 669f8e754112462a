with

released as (

    select as_of as released_at from {{ ref('stg_releases__newest') }}

),

current_as_of as (

    select as_of from {{ ref('dim_as_ofs') }}
    where is_current

),

journal as (

    select * from {{ ref('identity_journal') }}

),

members as (

    select distinct customer_id from {{ ref('stg_releases__memberships') }}

),

-- Customers that had been founded by then. A merge with one that had not only brought a new record.
founded as (

    select distinct journal.customer_id
    from journal
    cross join released
    where
        journal.event <> 'merged'
        and journal.as_of <= released.released_at

),

-- At the release's own as_of, a merge came after it if the one that went is still in it.
regrouped as (

    select
        journal.customer_id,
        journal.other_customer_id
    from journal
    cross join released
    left join founded
        on journal.other_customer_id = founded.customer_id
    left join members
        on journal.other_customer_id = members.customer_id
    where
        journal.event <> 'created'
        and (journal.event <> 'merged' or founded.customer_id is not null)
        and (
            journal.as_of > released.released_at
            or (journal.as_of = released.released_at and journal.event = 'merged' and members.customer_id is not null)
        )

),

lines as (

    select
        customer_id,
        occurred_at,
        known_at,
        superseded_at
    from {{ ref('int_order_line_versions') }}

),

visits as (

    select
        customer_id,
        ended_at as occurred_at,
        known_at,
        superseded_at
    from {{ ref('int_session_versions') }}
    where not is_bot

),

mail as (

    select
        mail.customer_id,
        mail.occurred_at,
        mail.known_at,
        cast(null as timestamp) as superseded_at
    from {{ ref('int_email_activity') }} as mail
    cross join current_as_of
    where not mail.is_machine or mail.machine_known_at >= current_as_of.as_of

),

happened as (

    select * from lines
    union all
    select * from visits
    union all
    select * from mail

),

-- What became known since the release: of the time before it, late or corrected; of the time since, new.
learned as (

    select
        happened.customer_id,
        happened.occurred_at < released.released_at as is_of_before
    from happened
    cross join released
    cross join current_as_of
    where
        happened.customer_id is not null
        and happened.known_at >= released.released_at
        and happened.known_at < current_as_of.as_of

),

-- A version that fell without a later one: what it said of the past is no longer so.
withdrawn as (

    select happened.customer_id
    from happened
    cross join released
    cross join current_as_of
    where
        happened.customer_id is not null
        and happened.known_at < released.released_at
        and happened.superseded_at >= released.released_at
        and happened.superseded_at < current_as_of.as_of

),

-- The profile is no activity: what is said otherwise of a customer corrects what was said before. Of a newcomer nothing
-- was said.
profiles as (

    select * from {{ ref('int_profile_versions') }}

),

profiles_before as (

    select profiles.*
    from profiles
    cross join released
    where
        profiles.known_at < released.released_at
        and (profiles.superseded_at is null or profiles.superseded_at >= released.released_at)

),

profiles_since as (

    select profiles.*
    from profiles
    cross join released
    cross join current_as_of
    where
        profiles.known_at >= released.released_at
        and profiles.known_at < current_as_of.as_of
        and (profiles.superseded_at is null or profiles.superseded_at >= current_as_of.as_of)

),

described as (

    select profiles_since.customer_id
    from profiles_since
    cross join released
    inner join {{ ref('dim_customers') }} as customers
        on
            profiles_since.customer_id = customers.customer_id
            and customers.first_known_at < released.released_at
    left join profiles_before
        on
            profiles_since.customer_id = profiles_before.customer_id
            and profiles_since.source = profiles_before.source
    where
        profiles_since.gender is distinct from profiles_before.gender
        or profiles_since.age_band is distinct from profiles_before.age_band
        or profiles_since.region_type is distinct from profiles_before.region_type
        or profiles_since.country_code is distinct from profiles_before.country_code
        or profiles_since.language is distinct from profiles_before.language
        or profiles_since.account_type is distinct from profiles_before.account_type
        or profiles_since.loyalty_tier is distinct from profiles_before.loyalty_tier
        or profiles_since.birthday is distinct from profiles_before.birthday

),

-- Of what a person permits, segments depend on profiling alone: without it there are no scores.
permitted as (

    select consents.customer_id
    from {{ ref('fct_consents') }} as consents
    cross join released
    where
        consents.purpose = 'profiling'
        and consents.customer_id is not null
        and consents.known_at >= released.released_at

),

refused as (

    select suppressions.customer_id
    from {{ ref('fct_suppressions') }} as suppressions
    cross join released
    where
        suppressions.customer_id is not null
        and (suppressions.reach = 'everything' or suppressions.purpose = 'profiling')
        and suppressions.known_at >= released.released_at

),

changes as (

    select
        customer_id,
        'identity' as kind
    from regrouped

    union all

    select
        other_customer_id as customer_id,
        'identity' as kind
    from regrouped

    union all

    select
        customer_id,
        case when is_of_before then 'data' else 'behaviour' end as kind
    from learned

    union all

    select
        customer_id,
        'data' as kind
    from withdrawn

    union all

    select
        customer_id,
        'data' as kind
    from described

    union all

    select
        customer_id,
        'consent' as kind
    from permitted

    union all

    select
        customer_id,
        'consent' as kind
    from refused

),

final as (

    select
        changes.customer_id,
        {{ dbt.bool_or("changes.kind = 'identity'") }} as has_identity_change,
        {{ dbt.bool_or("changes.kind = 'data'") }} as has_late_data,
        {{ dbt.bool_or("changes.kind = 'consent'") }} as has_consent_change,
        {{ dbt.bool_or("changes.kind = 'behaviour'") }} as has_new_activity,
        released.released_at
    from changes
    cross join released
    where changes.customer_id is not null
    group by
        changes.customer_id,
        released.released_at

)

select * from final
