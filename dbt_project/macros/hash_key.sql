{#- Keys made from text: cheap, and the same on every machine and after every rebuild. -#}

{% macro hash_key(text) -%}
    {#- An integer: the first 15 hexadecimal digits of the text's MD5, so that it is never negative. -#}
    {{ return(adapter.dispatch("hash_key", "mailwright")(text)) }}
{%- endmacro %}

{% macro duckdb__hash_key(text) -%}
    cast('0x' || substr(md5({{ text }}), 1, 15) as bigint)
{%- endmacro %}

{% macro column_hash(columns) -%}
    {#-
        An integer, never negative, made of any columns, nulls among them: a tenth of the cost of `hash_key`, and only the
        same on one version of one engine. For what never leaves the warehouse.
    -#}
    {{ return(adapter.dispatch("column_hash", "mailwright")(columns)) }}
{%- endmacro %}

{% macro duckdb__column_hash(columns) -%}
    cast(hash({{ columns | join(", ") }}) >> 1 as bigint)
{%- endmacro %}

{% macro identifier_id(source, identifier_type, identifier) -%}
    {#- Key of something that a person is known by; null without one. `source` and `identifier_type` are plain words. -#}
    {{ return(hash_key("'" ~ source ~ "|" ~ identifier_type ~ "|' || " ~ identifier)) }}
{%- endmacro %}

{% macro own_customer_id(source, identifier_type, identifier) -%}
    {#- The customer that a record founds: the first 16 hexadecimal digits of the MD5 of `source|type|identifier`. -#}
    substr({{ dbt.hash(source ~ " || '|' || " ~ identifier_type ~ " || '|' || " ~ identifier) }}, 1, 16)
{%- endmacro %}
