{#-
    Makes every source readable, whether or not anything was ever delivered to it: a view over the source's Parquet
    files, or a typed view without rows. Columns come from the sources' YAML, so a file that is older than a column
    shows it as null.

    Sources by schema: `lake_<source>` are accepted deliveries, `lake` the lake's own records, `state` what Python wrote,
    `shipped` lists that come with this project. A source in `lake` or `shipped` may name its file; one of the newest
    release, its file in there.
-#}
{% macro create_lake_views() -%}
    {%- if execute and flags.WHICH in ("run", "build", "test", "seed", "show", "snapshot") -%}
        {{ return(adapter.dispatch("create_lake_views", "mailwright")()) }}
    {%- endif -%}
{%- endmacro %}

{% macro duckdb__create_lake_views() -%}
    {%- set home = target.path.rpartition("/")[0] -%}
    {%- set present = lake_folders(home) -%}
    {%- set statements = [] -%}
    {%- for schema in graph.sources.values() | map(attribute="schema") | unique | sort -%}
        {%- do statements.append("create schema if not exists " ~ schema) -%}
    {%- endfor -%}
    {%- for source in graph.sources.values() | sort(attribute="unique_id") -%}
        {%- if source.name == "clock" -%}
            {%- do statements.append(clock_view(source, home, home ~ "/clock.json" in present)) -%}
        {%- elif source.name == "segments_set_aside" -%}
            {%- do statements.append(segments_view(source, home ~ "/segments.json", present)) -%}
        {%- elif source.schema in ("lake", "shipped") -%}
            {%- set folder = home ~ "/lake/" if source.schema == "lake" else project_folder() ~ "/reference/" -%}
            {%- set file = folder ~ source.config.meta.get("file", source.name ~ ".parquet") -%}
            {%- do statements.append(lake_view(source, file, file in present)) -%}
        {%- elif source.source_name == "releases" -%}
            {%- do statements.append(release_view(
                source, home ~ "/state/releases/", newest_release(home, present), present
            )) -%}
        {%- else -%}
            {%- set folder = home ~ "/" ~ source_folder(source) -%}
            {%- do statements.append(lake_view(source, folder ~ "/*.parquet", folder in present)) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(statements | join(";\n")) }}
{%- endmacro %}

{% macro lake_folders(home) -%}
    {#- What exists, in one query: folders of the home that hold Parquet files, the lake's own files, shipped lists. -#}
    {%- set query -%}
        select distinct regexp_replace(file, '/[^/]*$', '') as folder
        from glob([
            {{ quoted(home ~ "/lake/accepted/*/*/*.parquet") }},
            {{ quoted(home ~ "/state/*/*.parquet") }},
            {{ quoted(home ~ "/state/*/*/*.parquet") }}
        ])
        union all
        select file
        from glob([
            {{ quoted(home ~ "/lake/deliveries.parquet") }},
            {{ quoted(home ~ "/lake/contact_points/*.parquet") }},
            {{ quoted(project_folder() ~ "/reference/*.parquet") }},
            {{ quoted(home ~ "/clock.json") }},
            {{ quoted(home ~ "/segments.json") }}
        ])
    {%- endset -%}
    {{ return(run_query(query).columns[0].values() | list) }}
{%- endmacro %}

{% macro project_folder() -%}
    {#- Where this project stands, as `core/dbt_plugin.py` says it. -#}
    {{ return(run_query("select getvariable('dbt_project')").rows[0][0]) }}
{%- endmacro %}

{% macro source_folder(source) -%}
    {#- Where in the home its files lie. A source of the schema `state` that has another name has a folder of its own. -#}
    {%- if source.schema == "state" -%}
        {{ return("state/" ~ ("" if source.source_name == "state" else source.source_name ~ "/") ~ source.name) }}
    {%- endif -%}
    {{ return("lake/accepted/" ~ source.source_name ~ "/" ~ source.name) }}
{%- endmacro %}

{% macro lake_view(source, path, is_present) -%}
    {%- set columns = source.columns.values() | list -%}
    {%- if source.schema.startswith("lake_") -%}
        {%- set columns = columns + [
            {"name": "delivery_id", "data_type": "varchar"}, {"name": "row_number", "data_type": "bigint"}
        ] -%}
    {%- endif -%}
    create or replace view {{ source.schema }}.{{ source.identifier }} as
    select {{ columns | map(attribute="name") | join(", ") }}
    from (
        select
            {%- for column in columns %}
            cast(null as {{ column.data_type }}) as {{ column.name }}{{ "," if not loop.last }}
            {%- endfor %}
        where false
        {%- if is_present %}
        union all by name
        select * from read_parquet({{ quoted(path) }}, union_by_name = true)
        {%- endif %}
    )
{%- endmacro %}

{% macro newest_release(home, present) -%}
    {#- Number of the newest release as its folder is named, or none. A release is whole as soon as its folder is there. -#}
    {%- set numbers = [] -%}
    {%- for folder in present if modules.re.fullmatch(".*/state/releases/[0-9]{6}", folder) -%}
        {%- do numbers.append(folder.rpartition("/")[2]) -%}
    {%- endfor -%}
    {{ return(numbers | max if numbers else none) }}
{%- endmacro %}

{#- Changes are written a moment before the release that they come with: where that never came, they don't count. -#}
{% macro release_view(source, folder, newest, present) -%}
    {%- set file = source.config.meta.file -%}
    {%- if newest is none or file == "history/*.parquet" -%}
        {{- lake_view(source, folder ~ file, newest is not none and folder ~ "history" in present) -}}
        {{- "\n    where release <= " ~ (newest | int) if newest is not none -}}
    {%- elif file.endswith(".json") -%}
        create or replace view {{ source.schema }}.{{ source.identifier }} as
        select
            number as release,
            timezone('UTC', cast(as_of as timestamptz)) as as_of
        from read_json({{ quoted(folder ~ newest ~ "/" ~ file) }}, columns = {number: 'bigint', as_of: 'varchar'})
    {%- else -%}
        {{- lake_view(source, folder ~ newest ~ "/" ~ file, true) -}}
    {%- endif -%}
{%- endmacro %}

{#- The as_of of the last refresh. Before the first one it is the home's own, which a sample has; a home without one
    knows nothing yet. -#}
{% macro clock_view(source, home, is_set) -%}
    {%- set select_clock -%}
        select
            timezone('UTC', cast(as_of as timestamptz)) as as_of,
            timezone,
            currency
        from read_json(
            {{ quoted(home ~ ("/clock.json" if is_set else "/home.json")) }},
            columns = {as_of: 'varchar', timezone: 'varchar', currency: 'varchar'}
        )
    {%- endset -%}
    {%- if not is_set and run_query(select_clock).rows[0][0] is none -%}
        {%- do log(
            "Nothing is known before any instant, so the marts will be empty: " ~ home ~ " has no clock yet. Load data"
            ~ " and let the command line set it (mailwright refresh), or set MAILWRIGHT_HOME to the home that you mean.",
            info=true
        ) -%}
    {%- endif -%}
    create or replace view {{ source.schema }}.{{ source.identifier }} as {{ select_clock }}
{%- endmacro %}

{#- Of the segments as they stood at the last check, those that were set aside; none before the first check. -#}
{% macro segments_view(source, file, present) -%}
    create or replace view {{ source.schema }}.{{ source.identifier }} as
    select
        segment,
        file,
        reason,
        cadence,
        checksum,
        timezone('UTC', cast(fresh_at as timestamptz)) as fresh_at
    {%- if file in present %}
    from read_json(
        {{ quoted(file) }},
        columns = {
            segment: 'varchar', file: 'varchar', reason: 'varchar', cadence: 'varchar', checksum: 'varchar',
            fresh_at: 'varchar'
        }
    )
    where reason is not null
    {%- else %}
    from (values ('', '', '', '', '', ''))
        as none_yet (segment, file, reason, cadence, checksum, fresh_at)
    where false
    {%- endif %}
{%- endmacro %}

{% macro quoted(path) -%}
    '{{ path | replace("'", "''") }}'
{%- endmacro %}
