{#-
    What staging reads: the rows of an accepted table that stand, each with `known_at`, the instant since when it was
    known. Which rows stand follows the contract's `delivery_mode`:

    - append: every event once, as first delivered, where the contract's `event_key` tells repeats;
    - replace_entity: an entity of one row as in its latest delivery;
    - snapshot: the latest delivery.

    "Latest" is the delivery's sequence number. Rows of a delivery that is not in the manifest don't count: it was never
    finished. A live delivery received at or after the as_of is not known yet and so replaces nothing; `beyond_clock`
    lets it in all the same, for withdrawals. An entity is known since its first delivery, and a row not before it
    happened; of historical deliveries only the latter holds.
-#}
{% macro accepted_rows(source_name, table_name, beyond_clock=false) -%}
    {%- set table = source(source_name, table_name) -%}
    {%- set deliveries = known_deliveries(source_name, table_name, beyond_clock) -%}
    {%- if execute -%}
    {%- set meta = lake_contract(source_name, table_name) -%}
    {%- set mode = meta.delivery_mode -%}
    {%- set occurred_at = "accepted." ~ meta.occurred_at if meta.occurred_at else "cast(null as timestamp)" -%}
    {%- set entity = meta.entity_key | default([], true) | join(", ") -%}
    {%- set received_at = "delivery.received_at" -%}
    {%- if mode == "replace_entity" -%}
        {%- set received_at = "min(delivery.received_at) over (partition by " ~ entity ~ ")" -%}
    {%- endif -%}
    select
        accepted.*,
        delivery.sequence,
        {{ known_since(occurred_at, received_at) }} as known_at
    from {{ table }} as accepted
    inner join {{ deliveries }} as delivery on accepted.delivery_id = delivery.delivery_id
    {%- if mode == "snapshot" %}
    where delivery.sequence = (select max(sequence) from {{ deliveries }} as latest)
    {%- elif mode == "append" and meta.event_key %}
    {%- set event = meta.event_key | join(", ") %}
    qualify
        {{ meta.event_key | join(" is null or ") }} is null
        or row_number() over (partition by {{ event }} order by delivery.sequence, accepted.row_number) = 1
    {%- elif mode == "replace_entity" %}
    qualify row_number() over (
        partition by {{ entity }} order by delivery.sequence desc, accepted.row_number desc
    ) = 1
    {%- endif %}
    {%- endif -%}
{%- endmacro %}

{#-
    Every row that was ever accepted, for what keeps its versions itself: with its delivery's `sequence` and `received_at`
    (of historical deliveries long ago), and `known_at`, the instant since when it was known.
-#}
{% macro accepted_deliveries(source_name, table_name) -%}
    {%- set table = source(source_name, table_name) -%}
    {%- set deliveries = known_deliveries(source_name, table_name, true) -%}
    {%- if execute -%}
    {%- set meta = lake_contract(source_name, table_name) -%}
    {%- set occurred_at = "accepted." ~ meta.occurred_at if meta.occurred_at else "cast(null as timestamp)" -%}
    select
        accepted.*,
        delivery.sequence,
        delivery.received_at,
        {{ known_since(occurred_at, "delivery.received_at") }} as known_at
    from {{ table }} as accepted
    inner join {{ deliveries }} as delivery on accepted.delivery_id = delivery.delivery_id
    {%- endif -%}
{%- endmacro %}

{#-
    Every version of an entity that has one row, for what may not forget. Adds `known_at` of the version, `is_current`
    (the newest that is known at the as_of) and `is_latest` (the newest of all). `occurred_at` is a version's instant where
    that is more than the contract's column.
-#}
{% macro accepted_versions(source_name, table_name, occurred_at=none) -%}
    {%- set table = source(source_name, table_name) -%}
    {%- set clock = source("lake", "clock") -%}
    {%- set deliveries = known_deliveries(source_name, table_name, true) -%}
    {%- if execute -%}
    {%- set meta = lake_contract(source_name, table_name) -%}
    {%- set entity = meta.entity_key | join(", ") -%}
    select
        versions.*,
        versions.known_at < clock.as_of and row_number() over (
            partition by {{ entity }}
            order by
                case when versions.known_at < clock.as_of then 0 else 1 end,
                versions.sequence desc,
                versions.row_number desc
        ) = 1 as is_current,
        row_number() over (
            partition by {{ entity }} order by versions.sequence desc, versions.row_number desc
        ) = 1 as is_latest
    from (
        select
            accepted.*,
            delivery.sequence,
            {{ known_since(occurred_at or "accepted." ~ meta.occurred_at, "delivery.received_at") }} as known_at
        from {{ table }} as accepted
        inner join {{ deliveries }} as delivery on accepted.delivery_id = delivery.delivery_id
    ) as versions
    cross join {{ clock }} as clock
    {%- endif -%}
{%- endmacro %}

{% macro known_deliveries(source_name, table_name, beyond_clock) -%}
    {#- Deliveries of a table in the manifest; `received_at` of historical ones is long ago, as they set no bound. -#}
    (
        select
            deliveries.delivery_id,
            deliveries.sequence,
            case
                when deliveries.historical then cast('1900-01-01' as timestamp)
                else deliveries.received_at
            end as received_at
        from {{ source("lake", "deliveries") }} as deliveries
        {%- if not beyond_clock %}
        cross join {{ source("lake", "clock") }} as clock
        {%- endif %}
        where
            deliveries.source = '{{ source_name }}'
            and deliveries.table_name = '{{ table_name }}'
            {%- if not beyond_clock %}
            and (deliveries.historical or deliveries.received_at < clock.as_of)
            {%- endif %}
    )
{%- endmacro %}

{% macro known_since(occurred_at, received_at) -%}
    greatest(coalesce({{ occurred_at }}, {{ received_at }}), {{ received_at }})
{%- endmacro %}

{% macro lake_contract(source_name, table_name) -%}
    {#- What the contract says about a table: delivery_mode, entity_key or event_key, occurred_at. -#}
    {%- for table in graph.sources.values() if table.source_name == source_name and table.name == table_name -%}
        {{ return(table.config.meta) }}
    {%- endfor -%}
    {{ exceptions.raise_compiler_error("the contract has no table " ~ source_name ~ "." ~ table_name) }}
{%- endmacro %}
