{#-
    The models of models/segments, by name, so that a segment is one file and no list of them is kept.

    Found in the manifest's list of files because dbt learns a model's dependencies while parsing, when `graph` is still
    empty. It holds the whole list only as long as dbt parses the project whole (`partial_parse: false`).
-#}
{% macro segment_models() -%}
    {%- set names = [] -%}
    {%- for file in ref.manifest.files.values() -%}
        {%- set path = file.path.relative_path -%}
        {%- if path.startswith("segments/") and path.endswith(".sql") -%}
            {%- do names.append(path.rpartition("/")[2] | replace(".sql", "")) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(names | sort) }}
{%- endmacro %}

{#-
    The models of segments whose tables count: all but those that the last check set aside. A file that was corrected
    since counts again, so that `dbt build` by hand shows what the next refresh will make of it.
-#}
{% macro segments_in_force() -%}
    {%- if not execute -%}
        {{ return(segment_models()) }}
    {%- endif -%}
    {%- set is_there -%}
        select 1 from information_schema.tables where table_schema = 'lake' and table_name = 'segments_set_aside'
    {%- endset -%}
    {%- set set_aside = {} -%}
    {%- if run_query(is_there).rows -%}
        {%- for row in run_query("select segment, checksum from lake.segments_set_aside").rows -%}
            {%- do set_aside.update({"seg_" ~ row[0]: row[1]}) -%}
        {%- endfor -%}
    {%- endif -%}
    {%- set names = [] -%}
    {%- for name in segment_models() -%}
        {%- if name not in set_aside or set_aside[name] != graph.nodes["model.mailwright." ~ name].checksum.checksum -%}
            {%- do names.append(name) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(names) }}
{%- endmacro %}

{% macro segment_meta(model, key, default) -%}
    {#- What a segment's YAML says in `config.meta`; `default` where it says nothing, and while dbt is parsing. -#}
    {{ return(graph.nodes["model.mailwright." ~ model].config.meta.get(key, default) if execute else default) }}
{%- endmacro %}

{#-
    Campaigns as `campaigns.yml` has them: a list of (campaign, segment, priority). Read when it is asked for, so that no
    second list is kept; what is malformed is left out here and said by `mailwright segments check`.
-#}
{% macro campaign_segments() -%}
    {%- set entries = [] -%}
    {%- if execute -%}
        {%- set said = fromyaml(project_file("campaigns.yml"), {}) -%}
        {%- for campaign in (said.campaigns if said is mapping and said.campaigns else []) if campaign is mapping -%}
            {%- for segment in campaign.segments or [] if campaign.name is string and segment is string -%}
                {%- do entries.append((campaign.name, segment, loop.index)) -%}
            {%- endfor -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(entries) }}
{%- endmacro %}

{% macro project_file(name) -%}
    {#- Text of a file of this project; empty if there is none. -#}
    {{ return(adapter.dispatch("project_file", "mailwright")(name)) }}
{%- endmacro %}

{% macro duckdb__project_file(name) -%}
    {%- set found = run_query("select content from read_text([" ~ quoted(project_folder() ~ "/" ~ name) ~ "])") -%}
    {{ return(found.rows[0][0] if found.rows else "") }}
{%- endmacro %}

{% macro sorted_list(value) -%}
    {#- All values of a group as a list in their own order. -#}
    {{ return(adapter.dispatch("sorted_list", "mailwright")(value)) }}
{%- endmacro %}

{% macro duckdb__sorted_list(value) -%}
    list({{ value }} order by {{ value }})
{%- endmacro %}

{% macro empty_list() -%}
    {{ return(adapter.dispatch("empty_list", "mailwright")()) }}
{%- endmacro %}

{% macro duckdb__empty_list() -%}
    cast([] as varchar[])
{%- endmacro %}

{#-
    Customers of `affinities`, a CTE over customer_category_affinities, of whose interest a share of `fan_affinity` or more
    goes to these categories together. As shops name them differently, a segment may name several; nobody is in one of
    which the shop has none.
-#}
{% macro category_fans(affinities, categories) -%}
    select customer_id
    from {{ affinities }}
    where category in ({% for category in categories %}{{ quoted(category) }}{{ ", " if not loop.last }}{% endfor %})
    group by customer_id
    having sum(cast(affinity as decimal(18, 9))) >= {{ var("fan_affinity") }}
{%- endmacro %}
