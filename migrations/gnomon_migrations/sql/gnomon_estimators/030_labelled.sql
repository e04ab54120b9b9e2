create view gnomon_estimators.label_progress as select * from gnomon.label_progress;

-- The slices of event time whose labels are old enough for a horizon: the sealed ones, or, while a deployment has none
-- for that horizon, one provisional slice that ends at the watermark minus horizon and grace.
create view gnomon_estimators.cohorts as
select c.deployment_id, c.horizon, c.since, c.until, c.watermark, c.grace, c.label_kind, c.label_choice,
       c.source_offsets, c.label_offsets, c.load_ids, c.sealed_at, true as sealed
from gnomon.cohorts c
union all
select d.deployment_id, h.horizon, null, p.watermark - h.horizon - s.label_grace, p.watermark, s.label_grace,
       s.label_kind, s.label_choice, null, null, null, null, false
from gnomon.deployments d
join gnomon.streams s using (stream_id)
join gnomon_estimators.label_progress p using (stream_id)
cross join lateral unnest(s.horizons) h(horizon)
where p.watermark is not null
  and not exists (select from gnomon.cohorts c where c.deployment_id = d.deployment_id and c.horizon = h.horizon);

-- The offsets that a slice covers, by partition as an array; the first element is partition 0's.
create function gnomon_estimators.offsets(by_partition jsonb) returns bigint[] language sql immutable strict parallel safe as
$$
    select array_agg((by_partition ->> n::text)::bigint order by n)
    from generate_series(0, (select max(k::integer) from jsonb_object_keys(by_partition) k)) n
$$;

-- The slices of one horizon: `place` counts them within their deployment, `bounds` holds all their beginnings and the
-- end of the last, so that the slice of a pair is the width_bucket of its event time, which can be hashed. strict: it
-- is not inlined, hence evaluated once. rows: 200 deployments with 200 slices, which the planner assumes for both, so
-- that it expects a slice for each pair.
create function gnomon_estimators.slices(horizon interval)
    returns table (deployment_id integer, place integer, bounds timestamptz[], since timestamptz, until timestamptz,
                   grace interval, label_kind text, label_choice text, source_offsets bigint[],
                   label_offsets bigint[], load_ids bigint[], sealed_at timestamptz, sealed boolean, task text,
                   positive_class text, negative_class text)
    language sql stable strict parallel safe rows 40000 as -- planner note 9
$$
    select c.deployment_id, width_bucket(coalesce(c.since, '-infinity'), b.bounds), b.bounds, c.since, c.until, c.grace,
           c.label_kind, c.label_choice, gnomon_estimators.offsets(c.source_offsets), gnomon_estimators.offsets(c.label_offsets),
           c.load_ids, c.sealed_at, c.sealed, s.task, s.positive_class, s.negative_class
    from gnomon_estimators.cohorts c
    join (select k.deployment_id, array_agg(coalesce(k.since, '-infinity') order by k.until) || max(k.until) as bounds
          from gnomon_estimators.cohorts k where k.horizon = slices.horizon group by 1) b using (deployment_id)
    join gnomon_estimators.deployments d using (deployment_id)
    join gnomon_estimators.streams s on s.name = d.stream
    where c.horizon = slices.horizon
$$;

-- Whether a version of a label counts for a pair in its slice: in time, and covered by the seal.
create function gnomon_estimators.counts(observed_at timestamptz, label_partition integer, label_offset bigint, load_id bigint,
                                 latest timestamptz, sealed boolean, label_offsets bigint[], load_ids bigint[])
    returns boolean language sql immutable parallel safe as
$$
    select observed_at <= latest and (not sealed or label_offset < label_offsets[label_partition + 1]
                                      or load_id = any (load_ids))
$$;

-- Whether a period holds so little of the sample that its labels are better looked up one by one.
create function gnomon_estimators.holds_little(stream text, deployment text, since timestamptz, until timestamptz)
    returns boolean language sql stable parallel safe as
$$
    select coalesce(10 * sum(r.sampled) filter (where r.hour >= date_trunc('hour', coalesce(since, '-infinity'))
                                                  and r.hour < coalesce(until, 'infinity')) < sum(r.sampled), false)
    from gnomon_estimators.rollups r
    where r.deployment_id = any (gnomon_estimators.deployment_ids(holds_little.stream, holds_little.deployment))
$$;

-- Whether any request of a stream has several versions of its label. A report that needs labels several times asks once
-- and passes the answer to the functions that it calls.
create function gnomon_estimators.has_versions(stream text) returns boolean language sql stable parallel safe as
$$
    select exists (select from gnomon_estimators.label_versions v
                   where v.stream_id = (select s.stream_id from gnomon_estimators.streams s where s.name = has_versions.stream)
                   group by v.request_id having count(*) > 1)
$$;

-- The pairs of a cohort, each with its slice: covered by the seal, and not replayed later.
create function gnomon_estimators.due(stream text, deployment text, since timestamptz, until timestamptz, segment jsonb,
                              horizon interval)
    returns table (deployment_id integer, stream_id integer, event_time timestamptz, source_partition integer,
                   source_offset bigint, request_id text, cluster text, stratum text, segments jsonb, weight float8,
                   window_id uuid, inclusion_probability float8,
                   live_value float8, live_label text, live_scores float8[], live_items text[],
                   shadow_value float8, shadow_label text, shadow_scores float8[], shadow_items text[],
                   live_error_kind text, outcome text, latest timestamptz, label_kind text, label_choice text,
                   sealed boolean, label_offsets bigint[], load_ids bigint[], task text, positive_class text,
                   negative_class text, live_model_version text)
    language sql stable parallel safe rows 100000 as -- planner note 9
$$
    select p.deployment_id, p.stream_id, p.event_time, p.source_partition, p.source_offset, p.request_id, p.cluster,
           p.stratum, p.segments, p.weight, p.window_id, p.inclusion_probability, p.live_value, p.live_label,
           p.live_scores, p.live_items, p.shadow_value,
           p.shadow_label, p.shadow_scores, p.shadow_items, p.live_error_kind, p.outcome,
           p.event_time + due.horizon + c.grace, c.label_kind, c.label_choice, c.sealed, c.label_offsets, c.load_ids,
           c.task, c.positive_class, c.negative_class, p.live_model_version
    from gnomon_estimators.pairs p
    join gnomon_estimators.slices(due.horizon) c
      on c.deployment_id = p.deployment_id and c.place = width_bucket(p.event_time, c.bounds)
     and (not c.sealed or (p.source_offset < c.source_offsets[p.source_partition + 1]
                           and not (p.replayed and p.joined_at > c.sealed_at)))
    where p.deployment_id = any ((select gnomon_estimators.deployment_ids(due.stream, due.deployment))::integer[])
      and p.event_time >= coalesce(due.since, '-infinity')
      and p.event_time < coalesce(due.until, 'infinity')
      and gnomon_estimators.in_segment(p.segments, p.live_model_version, due.segment)
$$;

-- The pairs of a cohort, each with its valid label: observed no later than captured_at + horizon + grace, the first or
-- the last of them by the stream's policy, and stored before the seal. truth_value and truth_label are null if there is
-- none (or 0 if absence means negative). label_state: labelled, negative (by absence), late (a label arrived after the
-- cut-off), missing; known: one of the first two. Inlined by the planner.
--
-- If the stream declares a positive and a negative class, a value of 1 or 0 is that class, a class is that value, and
-- absence is the negative class. If it does not, 1 and 0 are the classes '1' and '0', and label_derived means that
-- nobody named them: decisions with other names cannot be compared with them.
--
-- Pairs and labels are joined in one of two ways. For much of the data by a hash join; if more than one version counts,
-- the others are removed by another hash join over the few requests that have several. For little of it by an index
-- look-up for each pair. The caller chooses, or leaves it to `holds_little`, which is evaluated once and switches one
-- of them off; workers can share the join if the query states it as a join. A caller that knows that no request has
-- several versions (`has_versions`) also passes that, which saves the search for them.
-- A caller of this function sets enable_nestloop to off: before the tables were first analyzed, the planner would
-- assume that they are small and scan all labels for each pair.
create function gnomon_estimators.labelled(stream text, deployment text, since timestamptz, until timestamptz, segment jsonb,
                                   horizon interval, one_by_one boolean default null,
                                   versions boolean default null)
    returns table (deployment_id integer, event_time timestamptz, source_partition integer, source_offset bigint,
                   request_id text, cluster text, stratum text, segments jsonb, weight float8,
                   window_id uuid, inclusion_probability float8,
                   live_value float8, live_label text, live_scores float8[], live_items text[],
                   shadow_value float8, shadow_label text, shadow_scores float8[], shadow_items text[],
                   live_error_kind text, outcome text, truth_value float8, truth_label text, relevance float8[],
                   relevance_items text[], label_state text, known boolean, observed_at timestamptz, task text,
                   label_derived boolean, live_model_version text)
    language sql stable parallel safe rows 100000 as -- planner note 9
$$
    select p.deployment_id, p.event_time, p.source_partition, p.source_offset, p.request_id, p.cluster, p.stratum,
           p.segments, p.weight, p.window_id, p.inclusion_probability, p.live_value, p.live_label, p.live_scores, p.live_items,
           p.shadow_value, p.shadow_label, p.shadow_scores, p.shadow_items, p.live_error_kind, p.outcome,
           coalesce(case p.label when p.positive_class then 1 when p.negative_class then 0 else p.value end,
                    case when p.labelled is null and p.label_kind = 'absence_is_negative' then 0 end),
           coalesce(p.label, case when p.value = 1 then coalesce(p.positive_class, '1')
                                  when p.value = 0
                                       or p.labelled is null and p.label_kind = 'absence_is_negative'
                                  then coalesce(p.negative_class, '0') end),
           p.relevance, p.items,
           case when p.labelled is not null then 'labelled' when p.label_kind = 'absence_is_negative' then 'negative'
                -- `exists` might be answered from a hash of all labels, although only few pairs need it.
                when (select true from gnomon_estimators.label_versions v
                      where v.stream_id = p.stream_id and v.request_id = p.request_id limit 1) then 'late'
                else 'missing' end,
           p.labelled is not null or p.label_kind = 'absence_is_negative', p.observed_at, p.task,
           p.label is null and p.positive_class is null
               and (p.value in (0, 1) or p.labelled is null and p.label_kind = 'absence_is_negative'),
           p.live_model_version
    from (
        select d.*, l.request_id as labelled, l.value, l.label, l.relevance, l.items, l.observed_at
        from gnomon_estimators.due(labelled.stream, labelled.deployment, labelled.since, labelled.until, labelled.segment,
                           labelled.horizon) d
        left join gnomon_estimators.label_versions l
          on l.stream_id = d.stream_id and l.request_id = d.request_id
         and gnomon_estimators.counts(l.observed_at, l.label_partition, l.label_offset, l.load_id, d.latest, d.sealed,
                              d.label_offsets, d.load_ids)
        where labelled.versions is not false
          and not coalesce(labelled.one_by_one,
                           gnomon_estimators.holds_little(labelled.stream, labelled.deployment, labelled.since, labelled.until))
          and not exists (
              select from (select stream_id, request_id from gnomon_estimators.label_versions
                           group by 1, 2 having count(*) > 1) m
              join gnomon_estimators.label_versions v using (stream_id, request_id)
              where v.stream_id = l.stream_id and v.request_id = l.request_id
                and gnomon_estimators.counts(v.observed_at, v.label_partition, v.label_offset, v.load_id, d.latest, d.sealed,
                                     d.label_offsets, d.load_ids)
                and case d.label_choice when 'first' then v.observed_at < l.observed_at
                                        else v.observed_at > l.observed_at end)
        union all
        select d.*, l.request_id, l.value, l.label, l.relevance, l.items, l.observed_at
        from gnomon_estimators.due(labelled.stream, labelled.deployment, labelled.since, labelled.until, labelled.segment,
                           labelled.horizon) d
        left join gnomon_estimators.label_versions l
          on l.stream_id = d.stream_id and l.request_id = d.request_id
         and gnomon_estimators.counts(l.observed_at, l.label_partition, l.label_offset, l.load_id, d.latest, d.sealed,
                              d.label_offsets, d.load_ids)
        where labelled.versions is false
          and not coalesce(labelled.one_by_one,
                           gnomon_estimators.holds_little(labelled.stream, labelled.deployment, labelled.since, labelled.until))
        union all
        select (x.d).*, (x.l).request_id, (x.l).value, (x.l).label, (x.l).relevance, (x.l).items, (x.l).observed_at
        from (
            -- A label as one column, because workers cannot share a join with a subquery that has a limit.
            select d, (select v from gnomon_estimators.label_versions v
                       where v.stream_id = d.stream_id and v.request_id = d.request_id
                         and gnomon_estimators.counts(v.observed_at, v.label_partition, v.label_offset, v.load_id, d.latest,
                                              d.sealed, d.label_offsets, d.load_ids)
                       order by case when d.label_choice = 'first' then v.observed_at end,
                                case when d.label_choice = 'last' then v.observed_at end desc
                       limit 1) as l
            from gnomon_estimators.due(labelled.stream, labelled.deployment, labelled.since, labelled.until, labelled.segment,
                               labelled.horizon) d offset '0') x -- planner note 3
        where coalesce(labelled.one_by_one,
                       gnomon_estimators.holds_little(labelled.stream, labelled.deployment, labelled.since, labelled.until))
    ) p
$$;

-- The same for a period, or null if its labels are looked up one by one, which needs no search.
create function gnomon_estimators.versions_in(stream text, deployment text, since timestamptz, until timestamptz)
    returns boolean language sql stable parallel safe as
$$
    select case when not gnomon_estimators.holds_little(versions_in.stream, versions_in.deployment, versions_in.since,
                                                        versions_in.until)
                then gnomon_estimators.has_versions(versions_in.stream) end
$$;

-- The names of the positive class: the declared one, otherwise the labels with the value 1 (the value itself if a label
-- has no name), as the stream's labels show; null if there are none. A decision with another name is not a positive one,
-- whatever the truth.
create function gnomon_estimators.positive_names(stream text) returns text[] language sql stable parallel safe as
$$
    select case when s.positive_class is not null then array[s.positive_class]
                else (
                    select array_agg(n.name)
                    from (select coalesce(v.label, v.value::text) as name
                          from (select l.label, l.value from gnomon_estimators.label_versions l
                                where l.stream_id = s.stream_id and l.value in (0, 1) limit 100000) v
                          group by 1 having count(*) filter (where v.value = 1) > count(*) filter (where v.value = 0)) n) end
    from gnomon_estimators.streams s where s.name = positive_names.stream
$$;

-- The number of pairs of a deployment above which a report reads about that many (docs/adr/0045).
create function gnomon_estimators.read_at_most() returns float8 language sql immutable parallel safe as
$$ select 100000::float8 $$;

-- The same for the test of heterogeneity, which estimates every metric for every value of every key (docs/adr/0045).
create function gnomon_estimators.test_at_most() returns float8 language sql immutable parallel safe as
$$ select 50000::float8 $$;

-- The same for the reports on features, and for the features that a verdict names (docs/adr/0043).
create function gnomon_estimators.features_at_most() returns float8 language sql immutable parallel safe as
$$ select 30000::float8 $$;

-- The share of its pairs that is read, for each deployment that has more; none if exact. A report counts once and passes
-- `ids` and `shares` to the functions that it calls.
create function gnomon_estimators.thinned(stream text, deployment text, since timestamptz, until timestamptz, segment jsonb,
                                          exact boolean, at_most float8 default gnomon_estimators.read_at_most())
    returns table (deployment_id integer, share float8)
    language sql stable parallel safe rows 1 as -- planner note 9
$$
    select p.deployment_id, thinned.at_most / count(*)
    from gnomon_estimators.pairs_of(thinned.stream, thinned.deployment, thinned.since, thinned.until, thinned.segment) p
    where thinned.exact is not true
    group by 1 having count(*) > thinned.at_most
$$;

-- The same as one row of two arrays.
create function gnomon_estimators.shares(stream text, deployment text, since timestamptz, until timestamptz, segment jsonb,
                                         exact boolean, at_most float8 default gnomon_estimators.read_at_most())
    returns table (ids integer[], shares float8[])
    language sql stable parallel safe rows 1 as -- planner note 9
$$
    select coalesce(array_agg(t.deployment_id), '{}'), coalesce(array_agg(t.share), '{}')
    from gnomon_estimators.thinned(shares.stream, shares.deployment, shares.since, shares.until, shares.segment,
                                   shares.exact, shares.at_most) t
$$;

-- The share for a deployment: 1 if it is not in the list.
create function gnomon_estimators.share_of(deployment_id integer, ids integer[], shares float8[]) returns float8
    language sql immutable parallel safe as
$$ select coalesce(shares[array_position(ids, deployment_id)], 1) $$;

-- Whether a request belongs to such a share. The hash is independent of its content, so this is as if the service itself
-- had captured only this share: the weight is divided by it. The same requests belong to it every time; with another
-- `seed`, others.
create function gnomon_estimators.within_share(request_id text, share float8, seed bigint default 200000)
    returns boolean language sql immutable parallel safe as
$$ select share >= 1 or hashtextextended(request_id, seed) < (2 * share - 1) * 9223372036854775808::float8 $$;

-- Whether the reports on features read a request of a deployment with so many pairs. Their seed is older than that of
-- the other reports, and stays, so that a period keeps its numbers.
create function gnomon_estimators.read_for_features(request_id text, pairs bigint) returns boolean
    language sql immutable parallel safe as
$$
    select gnomon_estimators.within_share(request_id, gnomon_estimators.features_at_most() / pairs, 30000)
$$;

-- Normalised discounted cumulative gain of the first 1, 3, 5, 10 and 20 items, by linear gain and by exponential gain,
-- 2^relevance - 1: ten numbers in the order of `ndcg_metrics`. Discount log2(1 + place), items matched by name, items
-- without a relevance count 0, and so does an item that a list repeats (Järvelin and Kekäläinen 2002; Burges et al. 2005). Null if no item has a relevance above
-- 0, and for a relevance below 0, for which NDCG is not defined. Exponential gains are relative to that of the largest
-- relevance, which cancels out, so that no relevance is too large; numbers beyond 1e150 count as 1e150.
create function gnomon_estimators.ndcgs(items text[], relevant_items text[], relevance float8[])
    returns float8[] language sql immutable parallel safe as
$$
    with named as (
        select u.r from unnest(relevance, relevant_items) with ordinality u(r, item, place)
        where u.place <= cardinality(relevance)
          and (u.item is null or array_position(relevant_items, u.item) = u.place)
    ),
    gains as (
        select n.place, n.best, ln(1 + n.place) / ln(2) as discount, n.gain as linear,
               2 ^ greatest(n.gain - n.top, -1000) - 2 ^ greatest(-n.top, -1000) as exponential
        from (select i.place, false as best, v.gain, t.top
              from unnest(items) with ordinality i(item, place)
              cross join lateral (select case when array_position(items, i.item) = i.place
                                              then coalesce(relevance[array_position(relevant_items, i.item)], 0)
                                              else 0 end as given) g
              cross join lateral (select case when g.given > 1e-150 then least(g.given, 1e150) else 0 end as gain) v
              cross join (select max(least(u.r, 1e150)) as top from named u) t
              where i.place <= 20
              union all
              select row_number() over (order by v.gain desc), true, v.gain, max(v.gain) over ()
              from named u
              cross join lateral (select case when u.r > 1e-150 then least(u.r, 1e150) else 0 end as gain) v) n
        where n.place <= 20
    )
    select case when items is not null and 0 <= all (relevance) then array_agg(m.ndcg order by m.exponential, m.k) end
    from (select e.exponential, c.k,
                 coalesce(sum(case when e.exponential then g.exponential else g.linear end / g.discount)
                              filter (where not g.best), 0)
                 / nullif(sum(case when e.exponential then g.exponential else g.linear end / g.discount)
                              filter (where g.best), 0) as ndcg
          from (values (1), (3), (5), (10), (20)) c(k)
          cross join (values (false), (true)) e(exponential)
          left join gains g on g.place <= c.k
          group by 1, 2) m
$$;

create function gnomon_estimators.ndcg_metrics() returns text[] language sql immutable parallel safe as
$$
    select '{ndcg@1,ndcg@3,ndcg@5,ndcg@10,ndcg@20,ndcg_exp@1,ndcg_exp@3,ndcg_exp@5,ndcg_exp@10,ndcg_exp@20}'::text[]
$$;

-- The hour, weekday, day, stratum, version of the live model or segment of a row; '' is everything.
create function gnomon_estimators.slice_of(slice text, event_time timestamptz, stratum text, segments jsonb,
                                           live_version text, time_zone text)
    returns text language sql stable parallel safe as
$$
    select case when slice = 'all' then ''
                when slice = 'stratum' then stratum
                when slice = 'hour' then to_char(event_time at time zone time_zone, 'HH24')
                when slice = 'weekday' then to_char(event_time at time zone time_zone, 'ID Dy')
                when slice = 'day' then to_char(event_time at time zone time_zone, 'YYYY-MM-DD')
                when slice in ('live_version', 'segment:@live_version') then coalesce(live_version, '(none)')
                when slice like 'segment:%' then coalesce(segments ->> substr(slice, 9), '(none)') end
$$;
