"""Who people are: identities, CRM contacts with their flaws, consents and bought demographics. All of it simulated.

Needs the block's table `persons` (person, person_id, customer_ref, country, born_at, active_until, is_business,
first_taste, second_taste, mail_affinity, visits, visit_effect, order_effect). Leaves `identities` (one row per person)
and `mailable` (one row per address that may be mailed, with its span).
"""

from __future__ import annotations

from samples.draws import Block
from samples.names import Pools
from samples.scope import Scope

HOUSEHOLD_SHARE = 0.025
"""Share of private people who use the email, and mostly the surname, of another one: a trap for careless matching."""


def make(block: Block, pools: Pools, scope: Scope) -> None:
    """Write crm.contacts, crm.consents and third_party.demographics, and the truth about them."""
    for name in ("countries", "names", "places", "nicknames", "phone_ranges"):
        block.load(name, getattr(pools, name))
    _identities(block)
    _contacts(block, scope)
    _consents(block, scope)
    _demographics(block, scope)


def _identities(block: Block) -> None:
    block.connection.execute(
        f"""
        create table own_identities as
        with drawn as (
            select
                persons.*,
                countries.* exclude (country),
                draw(person, 'gender') < 0.62 as is_female,
                below(person, 'given name', pool_size) as given_at,
                below(person, 'surname', pool_size) as surname_at,
                below(person, 'place', pool_size) as place_at,
                below(person, 'street', pool_size) as street_at,
                1 + below(person, 'house', 180) as house,
                person % greatest(phone_range_count, 1) as range_at
            from persons
            inner join countries using (country)
        ),
        named as (
            select
                drawn.*,
                case when is_female then given.female else given.male end as given_name,
                family.surname,
                case when is_female then given.female_ascii else given.male_ascii end as given_ascii,
                family.surname_ascii,
                place.city,
                place.postal_code,
                case
                    when starts_with(drawn.locale, 'en_') then house || ' ' || road.street
                    else road.street || ' ' || house
                end as street,
                case
                    when person < phone_capacity then ranges.national_prefix
                        || lpad((person // phone_range_count)::varchar, ranges.digits::integer, '0')
                end as national_phone
            from drawn
            inner join names as given on given.locale = drawn.locale and given.position = given_at
            inner join names as family on family.locale = drawn.locale and family.position = surname_at
            inner join places as place on place.locale = drawn.locale and place.position = place_at
            inner join places as road on road.locale = drawn.locale and road.position = street_at
            left join phone_ranges as ranges
                on ranges.country_code = drawn.country_code and ranges.range_number = range_at
        )
        select
            *,
            (case
                when given_ascii = '' or surname_ascii = '' then 'customer'
                when draw(person, 'local part') < 0.55 then given_ascii || '.' || surname_ascii
                when draw(person, 'local part') < 0.8 then left(given_ascii, 1) || surname_ascii
                else surname_ascii || '_' || given_ascii
            end) || person as local_part,
            ['example.com', 'example.org', 'example.net'][1 + below(person, 'domain', 3)] as domain,
            coalesce(
                '+' || calling_code || ' ' || replace(regexp_replace(national_phone, '^0|[()]', '', 'g'), '-', ' '),
                '+' || calling_code || ' 0000 ' || lpad(person::varchar, 7, '0')
            ) as international_phone,
            case
                when not is_business
                    then date '1930-01-01' + below(person, 'birth year', 62)::integer * 365 + below(person, 'birthday', 365)::integer
            end as birthday
        from named;

        create table households as
        with private_people as (
            select *, draw(person, 'household') < {HOUSEHOLD_SHARE} as is_member
            from own_identities
            where not is_business
        ),
        neighbours as (
            select
                person,
                is_member,
                lead(person) over (partition by country order by person) as head,
                lead(is_member) over (partition by country order by person) as is_head_member
            from private_people
        )
        select person, head from neighbours where is_member and not is_head_member;

        create table identities as
        select
            own.* exclude (local_part, domain, surname, street, city, postal_code, place_at),
            coalesce(head.head, own.person) as household,
            head.head is not null as shares_email,
            coalesce(other.local_part, own.local_part) || '@' || coalesce(other.domain, own.domain) as email,
            own.surname_ascii || '.' || own.given_ascii || own.person || '@'
                || case own.domain when 'example.com' then 'example.net' else 'example.com' end as other_email,
            case when draw(own.person, 'family name') < 0.7 then coalesce(other.surname, own.surname) else own.surname end as surname,
            coalesce(other.street, own.street) as street,
            coalesce(other.city, own.city) as city,
            coalesce(other.postal_code, own.postal_code) as postal_code,
            own.place_at
        from own_identities as own
        left join households as head on head.person = own.person
        left join own_identities as other on other.person = head.head;
        """
    )


def _contacts(block: Block, scope: Scope) -> None:
    block.connection.execute(
        f"""
        create table contacts as
        with counted as (
            select
                *,
                case
                    when customer_ref is not null and draw(person, 'contacts') < 0.03 then 0
                    when draw(person, 'contacts') < 0.75 then 1
                    when draw(person, 'contacts') < 0.94 then 2
                    else 3
                end as contact_count
            from identities
        ),
        copied as (
            select
                *,
                unnest(range(contact_count)) as copy,
                person * 4 + unnest(range(contact_count)) as contact_key
            from counted
        ),
        flawed as (
            select
                copied.*,
                copy > 0 and draw(contact_key, 'nickname') < 0.35 as is_nickname,
                length(copied.surname) > 3 and draw(contact_key, 'slip') < case when copy > 0 then 0.12 else 0.01 end as has_slip,
                copy > 0 and draw(contact_key, 'moved') < 0.25 as has_moved,
                2 + below(contact_key, 'slip at', length(copied.surname) - 2) as slip_at,
                case
                    when copy = 0 and draw(contact_key, 'email') < 0.97 then copied.email
                    when draw(contact_key, 'email') < 0.5 then copied.email
                    when draw(contact_key, 'email') < 0.85 and given_ascii <> '' and surname_ascii <> '' then copied.other_email
                end as clean_email,
                moved.city as new_city,
                moved.postal_code as new_postal_code,
                moved.street as new_street,
                nicknames.nickname
            from copied
            left join nicknames on nicknames.given_name = copied.given_name
            inner join places as moved
                on moved.locale = copied.locale and moved.position = below(contact_key, 'new place', pool_size)
        ),
        dated as (
            select
                *,
                case when draw(contact_key, 'made') < 0.75 and copy = 0
                    then born_at + to_minutes(below(contact_key, 'made later', 3) )
                    else born_at + to_minutes(floor(
                        draw(contact_key, 'made') * datediff('minute', born_at, {scope.end_sql}) * 0.8
                    )::bigint)
                end as created_at
            from flawed
        ),
        written as (
            select
                *,
                case when is_nickname then coalesce(nickname, left(given_name, 1) || '.') else given_name end as shown_given,
                case
                    when has_slip and draw(contact_key, 'which slip') < 0.5 then swapped(surname, slip_at)
                    when has_slip then dropped(surname, slip_at)
                    else surname
                end as shown_surname,
                draw(contact_key, 'one name') < 0.05 as has_one_name
            from dated
        )
        select
            'sim-c-' || contact_key as contact_id,
            contact_key,
            person,
            copy,
            case when draw(contact_key, 'reference') < case when copy = 0 then 0.94 else 0.35 end then customer_ref end as customer_ref,
            clean_email,
            case
                when draw(contact_key, 'email case') < 0.04 then upper(left(clean_email, 1)) || substr(clean_email, 2)
                when draw(contact_key, 'email case') < 0.06 then upper(clean_email)
                when draw(contact_key, 'email case') < 0.07 then ' ' || clean_email
                else clean_email
            end as email,
            case
                when draw(contact_key, 'phone') > case when copy = 0 then 0.62 else 0.45 end then null
                when draw(contact_key, 'phone form') < 0.5 then coalesce(national_phone, international_phone)
                when draw(contact_key, 'phone form') < 0.8 then international_phone
                when draw(contact_key, 'phone form') < 0.9 then replace(international_phone, '+', '00')
                else replace(international_phone, ' ', '')
            end as phone,
            case
                when has_one_name then null
                when draw(contact_key, 'name case') < 0.03 then upper(shown_given)
                when draw(contact_key, 'name case') < 0.05 then lower(shown_given)
                when draw(contact_key, 'name case') < 0.06 then shown_given || ' '
                else shown_given
            end as given_name,
            case
                when has_one_name then null
                when draw(contact_key, 'name case') < 0.03 then upper(shown_surname)
                when draw(contact_key, 'name case') < 0.05 then lower(shown_surname)
                else shown_surname
            end as surname,
            case
                when has_one_name and draw(contact_key, 'name order') < 0.3 then shown_surname || ', ' || shown_given
                when has_one_name then shown_given || ' ' || shown_surname
            end as full_name,
            case
                when is_business or draw(contact_key, 'gender said') < 0.25 then null
                when draw(contact_key, 'gender said') < 0.6 then case when is_female then 'F' else 'M' end
                when draw(contact_key, 'gender said') < 0.97 then case when is_female then 'female' else 'male' end
                else 'other'
            end as gender,
            case when draw(contact_key, 'birthday said') < 0.5 then birthday end as birthday,
            case when has_moved then new_street || ' ' || house else street end as street,
            case when has_moved then new_city else city end as city,
            case when has_moved then new_postal_code else postal_code end as postal_code,
            case
                when country_code is null then null
                when draw(contact_key, 'country form') < 0.6 then country_code
                else country
            end as country,
            language,
            case
                when is_business and draw(contact_key, 'account') < 0.85 then 'business'
                when not is_business and draw(contact_key, 'account') < 0.9 then 'private'
            end as account_type,
            case
                when not is_business and copy = 0 and draw(person, 'loyalty') < 0.35
                    then case when draw(person, 'tier') < 0.6 then 'bronze' when draw(person, 'tier') < 0.9 then 'silver' else 'gold' end
            end as loyalty_tier,
            case
                when copy = 0 and draw(person, 'preferences') < 0.3
                    then json_object('categories', [category], 'frequency', case when draw(person, 'often') < 0.5 then 'weekly' else 'monthly' end)::varchar
            end as preferences,
            created_at,
            case
                when draw(contact_key, 'updated') < 0.2
                    then created_at + to_minutes(floor(draw(contact_key, 'updated at') * datediff('minute', created_at, {scope.end_sql}))::bigint)
            end as updated_at,
            is_nickname,
            has_slip,
            has_moved,
            shares_email
        from written
        left join categories on categories.category_number = written.first_taste;
        """
    )


def _consents(block: Block, scope: Scope) -> None:
    # What each contact said about marketing by email is one draw; everything else follows from it.
    block.connection.execute(
        f"""
        create table answers as
        with drawn as (
            select
                contacts.*,
                country_code in ('DE', 'AT', 'CH') as is_double_opt_in,
                draw(contact_key, 'answer') as answer,
                created_at + to_seconds(below(contact_key, 'answered', 600)) as answered_at,
                identities.is_business
            from contacts
            inner join identities using (person)
            where clean_email is not null
        )
        select
            *,
            answer < 0.62 as has_grant,
            answer >= 0.62 and answer < 0.69 as is_left_pending,
            answer >= 0.69 and answer < 0.73 as is_refused,
            is_double_opt_in or draw(contact_key, 'confirms') < 0.3 as is_confirmed,
            case
                when draw(contact_key, 'withdraws') < 0.08
                    then answered_at + to_minutes(1440 + floor(
                        draw(contact_key, 'withdrawn at') * datediff('minute', answered_at, {scope.end_sql} + interval 20 day)
                    )::bigint)
            end as withdrawn_at,
            case when draw(contact_key, 'expires') < 0.12 then answered_at + interval 1 year end as expires_at
        from drawn;

        create table consents as
        with said as (
            select
                contact_key, contact_id, clean_email as contact_point, 'email' as channel, 'marketing' as purpose,
                case when is_confirmed then 'pending' else 'granted' end as state, null as suppression,
                case when is_confirmed or not is_business then 'consent' else 'soft_opt_in' end as lawful_basis,
                answered_at as captured_at, case when not is_confirmed then expires_at end as expires_at, 1 as step
            from answers where has_grant
            union all
            select
                contact_key, contact_id, clean_email, 'email', 'marketing', 'confirmed', null, 'consent',
                answered_at + to_minutes(2 + below(contact_key, 'confirmed after', 600)), expires_at, 2
            from answers where has_grant and is_confirmed
            union all
            select
                contact_key, contact_id, clean_email, 'email', 'marketing', 'pending', null, 'consent', answered_at, null, 3
            from answers where is_left_pending
            union all
            select
                contact_key, contact_id, clean_email, 'email', 'marketing', 'withdrawn', 'objection', null, answered_at, null, 4
            from answers where is_refused
            union all
            select
                contact_key, contact_id, clean_email, 'email', 'marketing', 'withdrawn',
                case when draw(contact_key, 'withdrawal') < 0.8 then 'unsubscribe' else 'objection' end, null, withdrawn_at, null, 5
            from answers where has_grant and withdrawn_at is not null
            union all
            select
                contact_key, contact_id, clean_email, 'email', 'marketing', 'expired', null, null, expires_at, null, 6
            from answers where has_grant and expires_at < {scope.end_sql} and draw(contact_key, 'expiry noted') < 0.3
            union all
            select
                contact_key, contact_id, clean_email, 'email', 'profiling', 'granted', null, 'consent', answered_at, null, 7
            from answers where has_grant and draw(contact_key, 'profiling') < 0.8
            union all
            select
                contact_key, contact_id, clean_email, 'email', 'profiling', 'withdrawn', 'objection', null,
                answered_at + to_minutes(1440 + floor(
                    draw(contact_key, 'profiling ends') * datediff('minute', answered_at, {scope.end_sql})
                )::bigint), null, 8
            from answers where has_grant and draw(contact_key, 'profiling') < 0.03
            union all
            select
                contact_key, contact_id, clean_email, 'email', 'third_party_sharing', 'granted', null, 'consent', answered_at, null, 9
            from answers where has_grant and draw(contact_key, 'sharing') < 0.06
            union all
            select
                contact_key, contact_id, phone, 'sms', 'marketing', 'granted', null, 'consent', answered_at, null, 10
            from answers where phone is not null and draw(contact_key, 'sms') < 0.2
            union all
            select
                contact_key, contact_id, clean_email, 'email', 'marketing', 'withdrawn',
                case when draw(contact_key, 'grave') < 0.0007 then 'legal' else 'erasure' end, null,
                answered_at + to_minutes(1440 + floor(
                    draw(contact_key, 'grave at') * datediff('minute', answered_at, {scope.end_sql})
                )::bigint), null, 11
            from answers where draw(contact_key, 'grave') < 0.002
        )
        select
            'sim-k-' || contact_key || '-' || step as consent_id,
            contact_id,
            -- Most records leave the contact point out: the contact's own is meant.
            case when draw(contact_key, 'point given') < 0.4 then contact_point end as contact_point,
            channel,
            purpose,
            state,
            suppression,
            lawful_basis,
            case when state in ('pending', 'granted', 'confirmed') then 'v' || (1 + below(contact_key, 'notice', 3)) end as notice_version,
            'simulated ' || ['checkout', 'newsletter form', 'profile page', 'call centre'][1 + below(contact_key, 'source', 4)] as source,
            'simulated-' || contact_key || '-' || step as evidence,
            captured_at,
            expires_at
        from said;

        create table mailable as
        with spans as (
            select
                person,
                clean_email as email,
                answers.clean_email = identities.other_email as is_other,
                answered_at + case when is_confirmed then interval 11 hour else interval 0 hour end as from_at,
                least(coalesce(withdrawn_at, {scope.end_sql}), coalesce(expires_at, {scope.end_sql}), {scope.end_sql}) as until_at
            from answers
            inner join identities using (person)
            where has_grant
        )
        select email, min(person * 2 + is_other::integer) as address, address // 2 as person, min(from_at) as from_at, max(until_at) as until_at
        from spans
        group by email
        order by person, email;
        """
    )
    block.write(
        "crm",
        "contacts",
        """
        select contacts.* exclude (
            contact_key, person, copy, clean_email, is_nickname, has_slip, has_moved, shares_email
        ),
        case
            when draw(contact_key, 'tick box') < 0.25 and answers.has_grant then true
            when draw(contact_key, 'tick box') < 0.25 and answers.is_refused then false
        end as accepts_marketing
        from contacts
        left join answers using (contact_key)
        order by contact_key
        """,
    )
    block.write("crm", "consents", "select * from consents order by captured_at, consent_id")
    block.write_truth(
        "contacts",
        """
        select contact_id, person_id, is_nickname, has_slip, has_moved, contacts.shares_email
        from contacts inner join identities using (person) order by contact_key
        """,
    )


def _demographics(block: Block, scope: Scope) -> None:
    block.write(
        "third_party",
        "demographics",
        f"""
        with points as (
            select
                *,
                datediff('year', birthday, {scope.end_sql}::date)
                    + case when draw(person, 'age slip') < 0.08 then below(person, 'age slip by', 21) - 10 else 0 end as age
            from identities
            where not is_business and not shares_email and draw(person, 'bought') < 0.6
        )
        select
            case when draw(person, 'bought by phone') < 0.12 then international_phone else email end as contact_point,
            case when draw(person, 'bought by phone') < 0.12 then 'phone' else 'email' end as contact_point_type,
            case
                when age < 25 then '18-24' when age < 35 then '25-34' when age < 45 then '35-44'
                when age < 55 then '45-54' when age < 65 then '55-64' else '65+'
            end as age_band,
            case
                when draw(person, 'gender bought') < 0.05 then null
                when (draw(person, 'gender bought') < 0.9) = is_female then 'female'
                else 'male'
            end as gender,
            case when draw(place_at, 'region type') < 0.5 then 'urban' when draw(place_at, 'region type') < 0.85 then 'suburban' else 'rural' end as region_type,
            'simulated' as provider
        from points
        order by person
        """,
    )
