"""Email campaigns, sends and engagement, responding to a latent taste. All of it simulated.

Needs `mailable` and `identities` (see `samples.people`), `persons` and `categories`. Leaves `clicks` (human clicks) and
`nudges` (messages that brought someone by without a click, or made them order), from which visits and orders follow.
Keys are by address, of which a person has up to two. Whether a message goes out is drawn for each address and campaign,
so that its effect can be measured against truth.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from samples.draws import Block, arrow
from samples.scope import Scope

CLIENTS = (
    "Mozilla/5.0 (Windows NT 6.1; rv:5.0) Gecko/20100101 Thunderbird/5.0",
    "Microsoft Office/14.0 (Windows NT 6.1; Microsoft Outlook 14.0.6109)",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 5_0 like Mac OS X) AppleWebKit/534.46 Mobile/9A334",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_7_2) AppleWebKit/534.51.22",
)
OPENING_MACHINE = "Mozilla/5.0 (via ggpht.com GoogleImageProxy)"
CLICKING_MACHINE = "Mozilla/5.0 (compatible; BarracudaCentral link scanner)"


def load_campaigns(block: Block, scope: Scope, seed: int) -> None:
    """Make the block's table `campaigns`; it is the same in every block."""
    rng = np.random.default_rng([seed, 7_001])
    days = (scope.end - scope.start).days
    offsets = np.arange(9, days, scope.days_between_campaigns)
    theme = np.where(rng.random(len(offsets)) < 0.3, 0, rng.integers(1, block.count("categories"), len(offsets)))
    hour = rng.integers(7, 18, len(offsets))
    sent = [scope.start + timedelta(days=int(day), hours=int(h)) for day, h in zip(offsets, hour, strict=True)]
    block.load("plan", arrow({"number": np.arange(len(offsets)), "theme": theme, "sent_at": sent}))
    block.connection.execute(
        """
        create table campaigns as
        select
            number,
            'sim-campaign-' || lpad((number + 1)::varchar, 3, '0') as campaign_id,
            case
                when number % 13 = 12 then 'Simulated service notice ' || (number + 1)
                when theme = 0 then 'Simulated newsletter ' || (number + 1)
                else 'Simulated: ' || category || ' ' || (number + 1)
            end as name,
            case
                when number % 13 = 12 then 'Your account with us'
                when theme = 0 then 'New this week'
                else 'Have a look: ' || lower(category)
            end as subject,
            case when number % 13 = 12 then 'service' else 'promotional' end as kind,
            case when number % 13 = 12 or theme = 0 then null else theme end as theme,
            case when number % 13 = 12 then null else category end as category,
            sent_at
        from plan
        left join categories on categories.category_number = plan.theme and plan.theme > 0
        order by number
        """
    )


def make(block: Block, scope: Scope) -> None:
    """Write email.sends and email.events, and, in the first block, email.campaigns."""
    often, sometimes, rarely = scope.cadences
    block.connection.execute(
        f"""
        create table sent as
        with readers as (
            select
                mailable.person, mailable.address, mailable.email, from_at, until_at,
                persons.active_until, mail_affinity, first_taste, second_taste, visit_effect, order_effect,
                case when draw(address, 'cadence') < 0.34 then {often} when draw(address, 'cadence') < 0.67 then {sometimes} else {rarely} end as cadence,
                case when draw(address, 'address dies') < 0.025
                    then from_at + to_minutes(floor(draw(address, 'dies at') * datediff('minute', from_at, {scope.end_sql}))::bigint)
                end as dead_at,
                draw(address, 'opening machine') < 0.18 as is_opened_by_machine,
                draw(address, 'clicking machine') < 0.015 as is_clicked_by_machine
            from mailable
            inner join persons using (person)
        ),
        pairs as (
            select
                readers.*,
                campaigns.number,
                campaign_id,
                theme,
                address * 1024 + number as send_key,
                campaigns.sent_at + to_seconds(below(address * 1024 + number, 'queue', 1800)) as sent_at
            from readers
            inner join campaigns on campaigns.sent_at >= from_at and campaigns.sent_at < until_at - interval 1 hour
            where draw(address * 1024 + number, 'sent') < cadence
        ),
        drawn as (
            select
                *,
                case
                    when sent_at >= dead_at then 'hard'
                    when draw(send_key, 'soft bounce') < 0.006 then 'soft'
                end as bounce_type,
                mail_affinity
                    * case when theme is null then 0.6 when theme = first_taste then 1.0 when theme = second_taste then 0.75 else 0.3 end
                    * case when sent_at < active_until then 1.0 else 0.15 end as interest
            from pairs
        ),
        answered as (
            select
                *,
                bounce_type is null and draw(send_key, 'opens') < 0.05 + 0.9 * interest as is_opened,
                draw(send_key, 'clicks') < 0.02 + 0.9 * interest as would_click,
                bounce_type is null and draw(send_key, 'leaves') < 0.0012 as is_unsubscribed,
                bounce_type is null and draw(send_key, 'complains') < 0.00025 as is_complaint
            from drawn
        ),
        -- Nothing is sent any more to someone who left, or to an address that is dead.
        ends as (
            select address, min(number) as last_number
            from answered
            where is_unsubscribed or is_complaint or bounce_type = 'hard'
            group by address
        )
        select
            answered.person, email, answered.number, campaign_id, send_key, sent_at, bounce_type, active_until,
            visit_effect, order_effect, is_opened_by_machine, is_clicked_by_machine,
            is_opened, is_opened and would_click as is_clicked, is_unsubscribed, is_complaint,
            sent_at + to_seconds(4 + below(send_key, 'delivered', 90)) as delivered_at,
            sent_at + to_seconds(120 + least(400000, floor(-ln(1 - draw(send_key, 'opened')) * 25000))::bigint) as opened_at,
            5 + below(send_key, 'clicked', 120) as click_after
        from answered
        left join ends on ends.address = answered.address
        where answered.number <= coalesce(last_number, 1024);

        create table clicks as
        select person, number, campaign_id, min(opened_at + to_seconds(click_after)) as clicked_at
        from sent
        where is_clicked
        group by person, number, campaign_id;

        create table nudges as
        select
            person,
            number,
            campaign_id,
            min(delivered_at + to_minutes(60 + below(send_key, 'nudged', 4000))) as nudged_at,
            bool_or(draw(send_key, 'visit') < visit_effect) as has_visit,
            bool_or(draw(send_key, 'order') < order_effect) as has_order
        from sent
        where bounce_type is null
            and delivered_at < active_until
            and (draw(send_key, 'visit') < visit_effect or draw(send_key, 'order') < order_effect)
        group by person, number, campaign_id;
        """
    )
    if block.number == 0:
        block.write("email", "campaigns", "select * exclude (number, theme) from campaigns order by number")
    block.write(
        "email",
        "sends",
        "select 'sim-m-' || send_key as send_id, campaign_id, email, sent_at from sent order by send_key",
    )
    clients = ", ".join(f"'{client}'" for client in CLIENTS)
    block.write(
        "email",
        "events",
        f"""
        with opened as (
            select *, [{clients}][1 + below(person, 'mail client', {len(CLIENTS)})] as client from sent
        ),
        happened as (
            select send_key, 'd' as step, 'delivered' as event_type, email, campaign_id, delivered_at as occurred_at,
                null::varchar as url, null::varchar as bounce_type, null::varchar as user_agent
            from opened where bounce_type is null
            union all
            select send_key, 'b', 'bounced', email, campaign_id, delivered_at, null, bounce_type, null
            from opened where bounce_type is not null
            union all
            select send_key, 'p', 'opened', email, campaign_id, delivered_at + to_seconds(1 + below(send_key, 'preload', 8)),
                null, null, '{OPENING_MACHINE}'
            from opened where bounce_type is null and is_opened_by_machine
            union all
            select send_key, 'o', 'opened', email, campaign_id, opened_at, null, null, client
            from opened where is_opened
            union all
            select send_key, 's' || link, 'clicked', email, campaign_id, delivered_at + to_seconds(2 + link),
                'https://shop.example.com/mail/' || campaign_id || '/' || link, null, '{CLICKING_MACHINE}'
            from opened, (select unnest(range(1, 4)) as link) as links
            where bounce_type is null and is_clicked_by_machine
            union all
            select send_key, 'c', 'clicked', email, campaign_id, opened_at + to_seconds(click_after),
                'https://shop.example.com/mail/' || campaign_id || '/' || (1 + below(send_key, 'link', 4)), null, client
            from opened where is_clicked
            union all
            select send_key, 'u', 'unsubscribed', email, campaign_id, opened_at + interval 40 second, null, null, client
            from opened where is_unsubscribed
            union all
            select send_key, 'x', 'complained', email, campaign_id, opened_at + interval 50 second, null, null, null
            from opened where is_complaint and not is_unsubscribed
        )
        select
            'sim-e-' || send_key || '-' || step as event_id,
            'sim-m-' || send_key as send_id,
            * exclude (send_key, step)
        from happened
        where occurred_at < {scope.end_sql}
        """,
    )
