{#-
    A failure shows a slice of a spine, such as an as_of, in which a customer who was known then is missing or stands twice,
    or somebody else stands. Sums of hashes tell it at a quarter of what it costs to group tens of millions of rows.
-#}
{% test everyone_once(model, slices, keys) %}

    with

    expected as (
        select
            {{ keys | join(", ") }},
            count(*) as customers,
            sum({{ column_hash(["customer_id"]) }}) as hashes
        from {{ slices }} as slices
        inner join {{ ref("int_customer_firsts") }} as firsts on firsts.known_at < slices.as_of
        group by {{ keys | join(", ") }}
    ),

    found as (
        select
            {{ keys | join(", ") }},
            count(*) as customers,
            sum({{ column_hash(["customer_id"]) }}) as hashes
        from {{ model }}
        group by {{ keys | join(", ") }}
    )

    select
        {{ keys | join(", ") }},
        expected.customers as customers_known,
        found.customers as customers_there
    from expected
    full outer join found using ({{ keys | join(", ") }})
    where
        expected.customers is distinct from found.customers
        or expected.hashes is distinct from found.hashes

{% endtest %}
