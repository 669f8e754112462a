with

known as (
    select * from {{ ref("int_record_contact_points") }}
),

contacts as (
    select * from {{ ref("stg_crm__contacts") }}
),

documents as (
    select * from {{ ref("int_order_documents") }}
    where
        known_at < {{ clock_as_of() }}
        and (status is null or status not in ('test', 'fraud'))
),

-- Versions of a contact that are known later carry refusals and nothing else.
shown as (
    select
        contact_point_type,
        contact_point,
        contact_point_id as identifier_id,
        record_id as record_identifier_id,
        true as is_known
    from known

    union all

    select
        'email' as contact_point_type,
        email as contact_point,
        {{ identifier_id("any", "email", "email") }} as identifier_id,
        {{ identifier_id("crm", "contact_id", "contact_id") }} as record_identifier_id,
        false as is_known
    from contacts
    where email is not null

    union all

    select
        'phone' as contact_point_type,
        phone as contact_point,
        {{ identifier_id("any", "phone", "phone") }} as identifier_id,
        {{ identifier_id("crm", "contact_id", "contact_id") }} as record_identifier_id,
        false as is_known
    from contacts
    where phone is not null
),

pairs as (
    select
        contact_point_type,
        contact_point,
        identifier_id,
        record_identifier_id,
        {{ dbt.bool_or("is_known") }} as is_known
    from shown
    group by
        contact_point_type,
        contact_point,
        identifier_id,
        record_identifier_id
),

numbers as (
    select
        customer_ref,
        {{ latest_value("country_code", "ordered_at", "order_key") }} as country_code,
        {{ dbt.bool_or("not is_void and not is_cancellation") }} as has_ordered
    from documents
    where customer_ref is not null
    group by customer_ref
),

guests as (
    select
        email,
        {{ latest_value("country_code", "ordered_at", "order_key") }} as country_code,
        {{ dbt.bool_or("not is_void and not is_cancellation") }} as has_ordered
    from documents
    where customer_ref is null and email is not null
    group by email
),

records as (
    select
        {{ identifier_id("shop", "customer_ref", "customer_ref") }} as record_identifier_id,
        country_code,
        has_ordered
    from numbers

    union all

    select
        {{ identifier_id("any", "email", "email") }} as record_identifier_id,
        country_code,
        has_ordered
    from guests

    union all

    -- What a contact does not say of itself its number in the shop does.
    select
        {{ identifier_id("crm", "contact_id", "contacts.contact_id") }} as record_identifier_id,
        coalesce(contacts.country_code, numbers.country_code) as country_code,
        coalesce(numbers.has_ordered, false) as has_ordered
    from contacts
    left join numbers on contacts.customer_ref = numbers.customer_ref
    where contacts.is_current
),

described as (
    select
        pairs.contact_point_type,
        pairs.contact_point,
        pairs.identifier_id,
        pairs.record_identifier_id,

        records.country_code,

        coalesce(records.has_ordered, false) as has_ordered,
        pairs.is_known,
        blocked.contact_point_id is not null as is_blocked
    from pairs
    left join records on pairs.record_identifier_id = records.record_identifier_id
    left join {{ ref("int_blocked_contact_points") }} as blocked on pairs.identifier_id = blocked.contact_point_id
)

select * from described
