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
        *,
        case when contact_point_type = 'email' then contact_point end as email
    from {{ ref('fct_consents') }}

),

suppressed as (

    select * from {{ ref('suppressed_addresses') }}

),

permissions as (

    select * from {{ ref('customer_permissions') }}

),

policies as (

    select * from {{ ref('contact_point_policies') }}
    where contact_point_type = 'email'

),

-- Beside the addresses of customers those that only a consent or a refusal names.
addresses as (

    select email
    from holders

    union

    select email
    from consents
    where email is not null

    union

    select email
    from suppressed

),

-- One customer stands for a shared address.
representatives as (

    select
        holders.email,
        max(case when holders.precedence = 1 then holders.customer_id end) as customer_id,
        count(*) as customers,
        {{ dbt.bool_or('permissions.is_known_minor') }} as is_known_minor
    from holders
    inner join permissions
        on holders.customer_id = permissions.customer_id
    group by holders.email

),

-- A grant is for one address, one channel, one purpose, and counts if known before as_of. Where two things were said at
-- once, the more careful one counts. A grant that is not enough for the country neither allows nor undoes anything.
statements as (

    select
        consents.email,
        consents.purpose,
        consents.state,
        consents.is_permission,
        consents.ends_at,
        consents.captured_at,
        row_number() over (
            partition by consents.email, consents.purpose
            order by
                case when consents.is_permission or not {{ is_grant('consents.state') }} then 0 else 1 end,
                consents.captured_at desc,
                {{ carefulness('consents.state') }},
                consents.ends_at,
                consents.consent_key
        ) as newness,
        row_number() over (
            partition by consents.email, consents.purpose
            order by
                consents.captured_at desc,
                {{ carefulness('consents.state') }},
                consents.expires_at,
                consents.consent_key
        ) as newness_of_all,
        consents.expires_at
    from consents
    cross join current_as_of
    where
        consents.email is not null
        and consents.channel = 'email'
        and consents.suppression is null
        and (consents.state in ('withdrawn', 'expired') or consents.known_at < current_as_of.as_of)

),

-- What stands if only what the person said is asked for, and what is left of it by the policy of the countries.
grants as (

    select
        statements.email,
        statements.purpose,
        {{ dbt.bool_or(
            "statements.newness_of_all = 1 and (statements.expires_at is null or statements.expires_at > current_as_of.as_of)"
        ) }} as is_consented,
        max(
            case
                when
                    statements.newness = 1
                    and statements.is_permission
                    and (statements.ends_at is null or statements.ends_at > current_as_of.as_of)
                    then statements.captured_at
            end
        ) as granted_at
    from statements
    cross join current_as_of
    where {{ is_grant('statements.state') }}
    group by
        statements.email,
        statements.purpose

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
        coalesce(representatives.is_known_minor, false) as is_known_minor,
        coalesce(marketing.is_consented or marketing.granted_at is not null, false) as is_consented,
        marketing.granted_at is not null as is_permitted,
        marketing.granted_at as consented_at,
        refused.email is not null as is_suppressed,
        refused.suppression_type as refusal,
        coalesce(policies.needs_double_opt_in, default_policy.needs_double_opt_in) as needs_double_opt_in,
        (
            profiling.granted_at is not null
            or coalesce(policies.profiling_basis, default_policy.profiling_basis) = 'legitimate_interest'
        )
        and refused_profiling.email is null
        and coalesce(permissions.may_be_profiled, false) as may_profile
    from addresses
    left join {{ ref('consent_policies') }} as default_policy
        on default_policy.country_code = '*'
    left join policies
        on addresses.email = policies.contact_point
    left join representatives
        on addresses.email = representatives.email
    left join permissions
        on representatives.customer_id = permissions.customer_id
    left join grants as marketing
        on
            addresses.email = marketing.email
            and marketing.purpose = 'marketing'
    left join grants as profiling
        on
            addresses.email = profiling.email
            and profiling.purpose = 'profiling'
    left join suppressed as refused
        on
            addresses.email = refused.email
            and refused.purpose = 'marketing'
    left join suppressed as refused_profiling
        on
            addresses.email = refused_profiling.email
            and refused_profiling.purpose = 'profiling'

),

final as (

    select
        email,
        customer_id,
        cast(customers as integer) as customers,
        is_matched,
        has_contact_point,
        is_known_minor,
        is_consented,
        is_permitted,
        is_suppressed,
        is_matched and has_contact_point and not is_known_minor and is_permitted and not is_suppressed as is_sendable,
        case
            when not is_matched then 'no_customer'
            when not has_contact_point then 'invalid_address'
            when is_known_minor then 'minor'
            when not is_consented then 'no_consent'
            when not is_permitted then 'policy'
            when is_suppressed then 'suppressed'
        end as reason_not_sendable,
        refusal,
        consented_at,
        needs_double_opt_in,
        may_profile
    from joined

)

select * from final
