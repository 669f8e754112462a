{#-
    Business-local dates and times. Instants are naive UTC everywhere; a local date is its own column.
    The timezone is a literal in the compiled SQL: a zone that varies by row costs DuckDB ten times as much.
-#}

{% macro business_timezone() -%}
    {#- The timezone of the home, read from the clock; UTC before there is one. -#}
    {%- if not execute -%}
        {{ return("UTC") }}
    {%- endif -%}
    {%- set is_there = "select 1 from information_schema.tables where table_schema = 'lake' and table_name = 'clock'" -%}
    {%- if not run_query(is_there).rows -%}
        {{ return("UTC") }}
    {%- endif -%}
    {{ return(run_query("select timezone from lake.clock").rows[0][0] or "UTC") }}
{%- endmacro %}

{% macro to_local_date(instant) -%}
    {{ return(adapter.dispatch("to_local_date", "mailwright")(instant)) }}
{%- endmacro %}

{% macro duckdb__to_local_date(instant) -%}
    cast(timezone('{{ business_timezone() }}', timezone('UTC', {{ instant }})) as date)
{%- endmacro %}

{% macro local_midnight(day) -%}
    {#- The instant at which a local day begins. -#}
    {{ return(local_to_utc("cast(" ~ day ~ " as timestamp)")) }}
{%- endmacro %}

{% macro local_to_utc(local) -%}
    {#- Local wall time to its instant: the earlier one if ambiguous, moved forward if skipped. -#}
    {{ return(adapter.dispatch("local_to_utc", "mailwright")(local)) }}
{%- endmacro %}

{% macro duckdb__local_to_utc(local) -%}
    {#- DuckDB takes the later instant of an ambiguous time. Coming from a day before gives the earlier one. -#}
    {%- set zone = "'" ~ business_timezone() ~ "'" -%}
    {%- set earlier = "timezone(" ~ zone ~ ", " ~ local ~ " - interval 1 day) + interval 24 hour" -%}
    timezone('UTC', case
        when timezone({{ zone }}, {{ earlier }}) = {{ local }} then {{ earlier }}
        else timezone({{ zone }}, {{ local }})
    end)
{%- endmacro %}
