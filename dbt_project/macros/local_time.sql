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

{% macro local_time_on(day, time_of_day) -%}
    {#- The instant of a time of day, as `HH:MM`, on a local day. -#}
    {%- set hours, minutes = time_of_day.split(":") -%}
    {{ return(local_to_utc(dbt.dateadd("minute", hours | int * 60 + minutes | int, "cast(" ~ day ~ " as timestamp)"))) }}
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

{% macro utc_days() -%}
    {#- The dates from 1990 to 2099, as rows of `utc_on`. -#}
    {{ return(adapter.dispatch("utc_days", "mailwright")()) }}
{%- endmacro %}

{% macro duckdb__utc_days() -%}
    select cast(day as date) as utc_on
    from range(timestamp '1990-01-01', timestamp '2100-01-01', interval 1 day) as days (day)
{%- endmacro %}

{% macro local_date_by_day(instant, days) -%}
    {#-
        As `to_local_date`, for big tables: `days` is `int_local_days`, joined on the instant's UTC date. Reading off the
        timezone for each row costs five times as much.
    -#}
    case
        when {{ days }}.utc_on is null then {{ to_local_date(instant) }}
        when {{ instant }} >= {{ days }}.third_at then {{ days }}.third_on
        when {{ instant }} >= {{ days }}.second_at then {{ days }}.second_on
        else {{ days }}.first_on
    end
{%- endmacro %}

{% macro local_day_end_by_day(instant, days) -%}
    {#- When the local day of an instant ends, likewise. -#}
    case
        when {{ days }}.utc_on is null then {{ local_midnight(dbt.dateadd("day", 1, to_local_date(instant))) }}
        when {{ instant }} >= {{ days }}.third_at then {{ local_midnight(dbt.dateadd("day", 1, days ~ ".third_on")) }}
        when {{ instant }} >= {{ days }}.second_at then {{ days }}.third_at
        else {{ days }}.second_at
    end
{%- endmacro %}
