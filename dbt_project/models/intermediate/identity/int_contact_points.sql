with

carried as (
    select
        contact_point_id,
        contact_point_type,
        contact_point,
        count(distinct record_id) as record_count,
        min(first_known_at) as first_known_at
    from {{ ref("int_record_contact_points") }}
    group by
        contact_point_id,
        contact_point_type,
        contact_point
),

emails as (
    select
        email,
        max(case when is_disposable then 1 else 0 end) = 1 as is_disposable
    from {{ ref("stg_lake__emails") }}
    where email is not null
    group by email
),

phones as (
    select
        phone,
        max(number_type) as number_type,
        max(case when is_valid then 1 else 0 end) = 1 as is_valid
    from {{ ref("stg_lake__phones") }}
    where phone is not null
    group by phone
),

parts as (
    select
        contact_point_id,
        {{ dbt.split_part("contact_point", "'@'", 1) }} as local_part,
        {{ dbt.split_part("contact_point", "'@'", 2) }} as domain
    from carried
    where contact_point_type = 'email'
),

-- At some providers a mailbox has many spellings: with a tag, with dots, at another of their domains.
untagged as (
    select
        parts.contact_point_id,
        parts.local_part,
        case
            when {{ dbt.position("email_providers.tag_sign", "parts.local_part") }} > 1
                then {{ dbt.split_part("parts.local_part", "email_providers.tag_sign", 1) }}
            else parts.local_part
        end as mailbox,
        coalesce(email_providers.provider_domain, parts.domain) as mailbox_domain,
        coalesce(email_providers.ignores_dots, false) as ignores_dots
    from parts
    left join {{ ref("email_providers") }} as email_providers on parts.domain = email_providers.domain
),

mailboxes as (
    select
        untagged.contact_point_id,
        case when untagged.ignores_dots then replace(untagged.mailbox, '.', '') else untagged.mailbox end
        || '@' || untagged.mailbox_domain as comparison_key,
        role_addresses.local_part is not null as is_role
    from untagged
    left join {{ ref("role_addresses") }} as role_addresses on untagged.local_part = role_addresses.local_part
),

blocked as (
    select
        contact_point_id,
        reason
    from {{ ref("int_blocked_contact_points") }}
),

contact_points as (
    select
        carried.contact_point_id as identifier_id,

        carried.contact_point_type,
        carried.contact_point,
        coalesce(mailboxes.comparison_key, carried.contact_point) as comparison_key,
        phones.number_type,
        case when not phones.is_valid then 'not_assigned' end as problem,
        blocked.reason as block_reason,

        carried.record_count,

        coalesce(phones.is_valid, true) as is_valid,
        coalesce(mailboxes.is_role, false) as is_role,
        coalesce(emails.is_disposable, false) as is_disposable,
        blocked.contact_point_id is not null as is_blocked,

        carried.first_known_at
    from carried
    left join emails
        on
            carried.contact_point_type = 'email'
            and carried.contact_point = emails.email
    left join phones
        on
            carried.contact_point_type = 'phone'
            and carried.contact_point = phones.phone
    left join mailboxes on carried.contact_point_id = mailboxes.contact_point_id
    left join blocked on carried.contact_point_id = blocked.contact_point_id
)

select * from contact_points
