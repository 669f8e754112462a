{% macro new_deliveries(source_name, table_name) -%}
    {#-
        Of the deliveries to a table those that this incremental table does not hold yet, told by its column `sequence`:
        `after` and `last` (sequences), `rows`, and whether there are repeats among them. Numbers rather than subqueries, as
        only these let the engine leave the other deliveries' files alone. Of a table that is made anew: all of them.
    -#}
    {%- if not execute or not is_incremental() -%}
        {{ return({"after": 0, "last": none, "rows": none, "has_repeats": true}) }}
    {%- endif -%}
    {%- set query -%}
        with stored as (select coalesce(max(sequence), 0) as after from {{ this }})
        select
            stored.after,
            coalesce(max(deliveries.sequence), stored.after),
            coalesce(sum(deliveries.rows_accepted + deliveries.rows_superseded), 0),
            coalesce(max(deliveries.rows_superseded), 0) > 0
        from stored
        left join {{ ref("stg_lake__deliveries") }} as deliveries
            on
                deliveries.sequence > stored.after
                and deliveries.source = '{{ source_name }}'
                and deliveries.table_name = '{{ table_name }}'
        group by stored.after
    {%- endset -%}
    {%- set found = run_query(query).rows[0] -%}
    {{ return({"after": found[0] | int, "last": found[1] | int, "rows": found[2] | int, "has_repeats": found[3]}) }}
{%- endmacro %}

{% macro repeated_rows(source_name, table_name, staged, new) -%}
    {#-
        Rows of `staged` (a staging model) that tell an event again, as `sequence` and `row_number`: the first row of an
        event id stands. `new` is what `new_deliveries` says. Hashes first: hardly any is left to compare exactly.
    -#}
    {%- if not new.has_repeats -%}
    select
        sequence,
        row_number
    from {{ staged }}
    where false
    {%- elif not is_incremental() -%}
    select
        events.sequence,
        events.row_number
    from {{ staged }} as events
    inner join (
        select {{ column_hash(["suspects.event_id"]) }} as event_hash
        from {{ staged }} as suspects
        where
            suspects.sequence <= (
                select max(deliveries.sequence)
                from {{ ref("stg_lake__deliveries") }} as deliveries
                where
                    deliveries.source = '{{ source_name }}'
                    and deliveries.table_name = '{{ table_name }}'
                    and deliveries.rows_superseded > 0
            )
        group by {{ column_hash(["suspects.event_id"]) }}
        having count(*) > 1
    ) as suspects on {{ column_hash(["events.event_id"]) }} = suspects.event_hash
    qualify row_number() over (partition by events.event_id order by events.sequence, events.row_number) > 1
    {%- else -%}
    {#- The limit is the number of rows that there are: it tells the engine which side of the joins is the small one. -#}
    select
        sequence,
        row_number
    from (
        select
            events.event_id,
            events.sequence,
            events.row_number
        from {{ staged }} as events
        where events.sequence > {{ new.after }} and events.sequence <= {{ new.last }}
        limit {{ new.rows }}
    ) as events
    qualify
        row_number() over (partition by events.event_id order by events.sequence, events.row_number) > 1
        or events.event_id in (
            select told.event_id
            from {{ this }} as told
            where told.event_id in (
                select again.event_id
                from (
                    select events.event_id
                    from {{ staged }} as events
                    where events.sequence > {{ new.after }} and events.sequence <= {{ new.last }}
                    limit {{ new.rows }}
                ) as again
            )
        )
    {%- endif -%}
{%- endmacro %}
