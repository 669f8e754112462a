with

current_as_of as (

    select as_of from {{ ref('dim_as_ofs') }}
    where is_current

),

holders as (

    select * from {{ ref('address_holders') }}

),

consents as (

    select
        consent_key,
        customer_id,
        case when contact_point_type = 'email' then contact_point end as email,
        channel,
        purpose,
        state,
        suppression,
        coalesce(suppression, case when state = 'withdrawn' then 'unsubscribe' end) as refusal,
        captured_at,
        known_at,
        expires_at
    from {{ ref('fct_consents') }}

),

-- Beside the addresses of customers those that only a consent or a refusal names.
addresses as (

    select email
    from holders

    union

    select email
    from consents
    where email is not null

),

-- One customer stands for a shared address.
representatives as (

    select
        email,
        max(case when precedence = 1 then customer_id end) as customer_id,
        count(*) as customers
    from holders
    group by email

),

-- A grant is for one address, one channel, one purpose, and counts if known before as_of. Where two things were said at
-- once, the more careful one counts.
statements as (

    select
        consents.email,
        consents.purpose,
        consents.state,
        consents.expires_at,
        consents.captured_at,
        row_number() over (
            partition by consents.email, consents.purpose
            order by
                consents.captured_at desc,
                case consents.state
                    when 'withdrawn' then 1
                    when 'expired' then 2
                    when 'pending' then 3
                    else 4
                end,
                consents.expires_at,
                consents.consent_key
        ) as newness
    from consents
    cross join current_as_of
    where
        consents.email is not null
        and consents.channel = 'email'
        and consents.suppression is null
        and (consents.state in ('withdrawn', 'expired') or consents.known_at < current_as_of.as_of)

),

permissions as (

    select
        statements.email,
        statements.purpose,
        statements.captured_at as granted_at
    from statements
    cross join current_as_of
    where
        statements.newness = 1
        and statements.state in ('granted', 'confirmed')
        and (statements.expires_at is null or statements.expires_at > current_as_of.as_of)

),

-- What a refusal is about: a bounce the address, an objection the purpose on every channel, an erasure and a legal
-- suppression everything. It counts whenever it became known.
refusals as (

    select
        customer_id,
        email,
        channel,
        purpose,
        refusal,
        case refusal
            when 'erasure' then 'everything'
            when 'legal' then 'everything'
            when 'objection' then 'purpose'
            when 'hard_bounce' then 'address'
            else 'channel'
        end as reach,
        captured_at
    from consents
    where refusal is not null

),

refusals_by_purpose as (

    select
        'marketing' as refused_purpose,
        *
    from refusals
    where
        reach = 'everything'
        or (purpose = 'marketing' and (channel = 'email' or reach = 'purpose'))

    union all

    select
        'profiling' as refused_purpose,
        *
    from refusals
    where
        reach = 'everything'
        or purpose = 'profiling'

),

-- It binds the person: all who have the address that it is about, and whose it is by the source's word.
refusing_persons as (

    select
        customer_id,
        refused_purpose,
        refusal,
        reach,
        captured_at
    from refusals_by_purpose
    where
        customer_id is not null
        and reach != 'address'

    union

    select
        holders.customer_id,
        refusals_by_purpose.refused_purpose,
        refusals_by_purpose.refusal,
        refusals_by_purpose.reach,
        refusals_by_purpose.captured_at
    from refusals_by_purpose
    inner join holders
        on refusals_by_purpose.email = holders.email
    where refusals_by_purpose.reach != 'address'

),

bound_addresses as (

    select
        email,
        refused_purpose,
        refusal,
        reach,
        captured_at
    from refusals_by_purpose
    where email is not null

    union

    select
        holders.email,
        refusing_persons.refused_purpose,
        refusing_persons.refusal,
        refusing_persons.reach,
        refusing_persons.captured_at
    from refusing_persons
    inner join holders
        on refusing_persons.customer_id = holders.customer_id

),

-- A later grant for the same address lifts a refusal, but no bounce, erasure or legal suppression.
standing as (

    select
        bound_addresses.email,
        bound_addresses.refused_purpose,
        min(
            case bound_addresses.refusal
                when 'erasure' then '1 erasure'
                when 'legal' then '2 legal'
                when 'complaint' then '3 complaint'
                when 'objection' then '4 objection'
                when 'hard_bounce' then '6 hard_bounce'
                else '5 unsubscribe'
            end
        ) as gravest_refusal
    from bound_addresses
    left join permissions
        on
            bound_addresses.email = permissions.email
            and bound_addresses.refused_purpose = permissions.purpose
    where
        bound_addresses.reach = 'everything'
        or bound_addresses.reach = 'address'
        or permissions.granted_at is null
        or permissions.granted_at <= bound_addresses.captured_at
    group by
        bound_addresses.email,
        bound_addresses.refused_purpose

),

joined as (

    select
        addresses.email,
        representatives.customer_id,
        coalesce(representatives.customers, 0) as customers,
        representatives.customer_id is not null as is_matched,
        -- Limits of RFC 5321, section 4.5.3.1.
        coalesce(
            {{ email_address("addresses.email") }} = addresses.email
            and length(addresses.email) <= 254
            and length({{ dbt.split_part("addresses.email", "'@'", 1) }}) <= 64,
            false
        ) as has_contact_point,
        marketing.email is not null as is_consented,
        marketing.granted_at as consented_at,
        refused.email is not null as is_suppressed,
        substring(refused.gravest_refusal, 3) as refusal,
        profiling.email is not null and refused_profiling.email is null as may_profile
    from addresses
    left join representatives
        on addresses.email = representatives.email
    left join permissions as marketing
        on
            addresses.email = marketing.email
            and marketing.purpose = 'marketing'
    left join permissions as profiling
        on
            addresses.email = profiling.email
            and profiling.purpose = 'profiling'
    left join standing as refused
        on
            addresses.email = refused.email
            and refused.refused_purpose = 'marketing'
    left join standing as refused_profiling
        on
            addresses.email = refused_profiling.email
            and refused_profiling.refused_purpose = 'profiling'

),

final as (

    select
        email,
        customer_id,
        cast(customers as integer) as customers,
        is_matched,
        has_contact_point,
        is_consented,
        is_suppressed,
        is_matched and has_contact_point and is_consented and not is_suppressed as is_sendable,
        case
            when not is_matched then 'no_customer'
            when not has_contact_point then 'invalid_address'
            when not is_consented then 'no_consent'
            when is_suppressed then 'suppressed'
        end as reason_not_sendable,
        refusal,
        consented_at,
        may_profile
    from joined

)

select * from final
