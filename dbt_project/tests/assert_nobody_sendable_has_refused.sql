-- A failure means that an address may be mailed although a refusal stands: one about the address itself, or one by a
-- customer who has it, without a later grant for the address.
with

sendable as (

    select email from {{ ref('sendable_audience') }}
    where is_sendable

),

holders as (

    select * from {{ ref('address_holders') }}

),

consents as (

    select * from {{ ref('fct_consents') }}

),

refusals as (

    select
        sendable.email,
        consents.consent_key,
        consents.captured_at,
        coalesce(consents.suppression in ('hard_bounce', 'erasure', 'legal'), false) as is_final
    from sendable
    inner join consents
        on sendable.email = consents.contact_point
    where
        consents.state = 'withdrawn'
        and consents.channel = 'email'
        and consents.purpose = 'marketing'

    union

    select
        sendable.email,
        consents.consent_key,
        consents.captured_at,
        coalesce(consents.suppression in ('erasure', 'legal'), false) as is_final
    from sendable
    inner join holders
        on sendable.email = holders.email
    inner join consents
        on holders.customer_id = consents.customer_id
    where
        consents.state = 'withdrawn'
        and coalesce(consents.suppression, 'unsubscribe') != 'hard_bounce'
        and (
            (consents.channel = 'email' and consents.purpose = 'marketing')
            or consents.suppression in ('erasure', 'legal')
        )

),

grants as (

    select
        contact_point as email,
        max(captured_at) as granted_at
    from consents
    where
        state in ('granted', 'confirmed')
        and suppression is null
        and channel = 'email'
        and purpose = 'marketing'
    group by contact_point

)

select
    refusals.consent_key,
    refusals.captured_at
from refusals
left join grants
    on refusals.email = grants.email
where
    refusals.is_final
    or grants.granted_at is null
    or grants.granted_at <= refusals.captured_at
