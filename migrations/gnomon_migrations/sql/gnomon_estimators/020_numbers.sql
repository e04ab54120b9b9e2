-- Special functions that PostgreSQL lacks, and the intervals made of them. Formulas: Abramowitz and Stegun, Handbook
-- of Mathematical Functions, 6.1.41 (Stirling), 26.5.8 (incomplete beta as a continued fraction), 6.5.29 (incomplete
-- gamma as a series).
create function gnomon_estimators.ln_gamma(x float8) returns float8 language plpgsql immutable strict parallel safe as
$$
declare
    shifted float8 := x;
    low float8 := 0;
begin
    while shifted < 12 loop
        low := low + ln(shifted);
        shifted := shifted + 1;
    end loop;
    return (shifted - 0.5) * ln(shifted) - shifted + 0.9189385332046727418 + 1 / (12 * shifted)
           - 1 / (360 * shifted ^ 3) + 1 / (1260 * shifted ^ 5) - 1 / (1680 * shifted ^ 7) - low;
end
$$;

-- P(Beta(a, b) <= x); the continued fraction is evaluated from its far end.
create function gnomon_estimators.beta_cdf(x float8, a float8, b float8) returns float8
    language plpgsql immutable strict parallel safe as
$$
declare
    fraction float8 := 1;
begin
    if x <= 0 then return 0; end if;
    if x >= 1 then return 1; end if;
    if x > (a + 1) / (a + b + 2) then return 1 - gnomon_estimators.beta_cdf(1 - x, b, a); end if;
    for m in reverse 50 + (3 * sqrt(greatest(a, b)))::integer..1 loop
        fraction := 1 - (a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)) / fraction;
        fraction := 1 + m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)) / fraction;
    end loop;
    fraction := 1 - (a + b) * x / (a + 1) / fraction;
    return exp(greatest(gnomon_estimators.ln_gamma(a + b) - gnomon_estimators.ln_gamma(a) - gnomon_estimators.ln_gamma(b)
                        + a * ln(x) + b * ln(1 - x), -700)) / (a * fraction);
end
$$;

-- The x with P(Beta(a, b) <= x) = p: Newton's steps, halving the bracket where one would leave it.
create function gnomon_estimators.beta_quantile(p float8, a float8, b float8) returns float8
    language plpgsql immutable strict parallel safe as
$$
declare
    low float8 := 0;
    high float8 := 1;
    x float8 := a / (a + b);
    off float8;
    step float8;
    scale float8;
begin
    if a <= 0 then return 0; end if;
    if b <= 0 then return 1; end if;
    if a = 1 then return 1 - (1 - p) ^ (1 / b); end if;
    if b = 1 then return p ^ (1 / a); end if;
    scale := gnomon_estimators.ln_gamma(a + b) - gnomon_estimators.ln_gamma(a) - gnomon_estimators.ln_gamma(b);
    for n in 1..60 loop
        off := gnomon_estimators.beta_cdf(x, a, b) - p;
        if off < 0 then low := x; else high := x; end if;
        step := off / exp(greatest(scale + (a - 1) * ln(x) + (b - 1) * ln(1 - x), -500));
        exit when abs(step) <= 1e-15 * x or high - low <= 1e-15 * x;
        x := x - step;
        if x <= low or x >= high then x := (low + high) / 2; end if;
    end loop;
    return x;
end
$$;

-- The x with P(χ² of df degrees of freedom <= x) = p: bisection on the series of the incomplete gamma function.
create function gnomon_estimators.chi2_quantile(p float8, df float8) returns float8
    language plpgsql immutable strict parallel safe as
$$
declare
    a float8 := df / 2;
    low float8 := 0;
    high float8 := df + 20 * sqrt(2 * df) + 40;
    middle float8;
    term float8;
    total float8;
    n integer;
begin
    if df <= 0 then return null; end if;
    for step in 1..60 loop
        middle := (low + high) / 2;
        term := 1 / a;
        total := term;
        n := 0;
        while term > total * 1e-15 loop
            n := n + 1;
            term := term * (middle / 2) / (a + n);
            total := total + term;
        end loop;
        if total * exp(a * ln(middle / 2) - middle / 2 - gnomon_estimators.ln_gamma(a)) < p then
            low := middle;
        else
            high := middle;
        end if;
    end loop;
    return (low + high) / 2;
end
$$;

-- How many standard errors a 95% interval reaches to either side: the quantile of Student's t with df degrees of freedom,
-- the normal one where df is null. P(|T| > t) = I(df/2, 1/2) at df / (df + t²) (Abramowitz and Stegun, 26.7.1); from 200
-- degrees on the expansion around the normal quantile z (26.7.5), which is as good and costs nothing.
create function gnomon_estimators.reach(df float8) returns float8 language sql immutable parallel safe as
$$
    select case when df is null then z
                when df >= 200
                then z + (z ^ 3 + z) / (4 * df) + (5 * z ^ 5 + 16 * z ^ 3 + 3 * z) / (96 * df ^ 2)
                     + (3 * z ^ 7 + 19 * z ^ 5 + 17 * z ^ 3 - 15 * z) / (384 * df ^ 3)
                     + (79 * z ^ 9 + 776 * z ^ 7 + 1482 * z ^ 5 - 1920 * z ^ 3 - 945 * z) / (92160 * df ^ 4)
                when df >= 1 then (select sqrt(df * (1 - x) / x) from gnomon_estimators.beta_quantile(0.05, df / 2, 0.5) x) end
    from (values (1.959963984540054::float8)) normal(z)
$$;

-- A value as a probability: by so little outside of 0 to 1 that rounding did it, it is the end. Any other finite number is
-- none, and NaN, so that a mean with a single one of them is NaN and never that of the others alone (`estimates`).
create function gnomon_estimators.chance(value float8) returns float8 language sql immutable parallel safe as
$$
    select case when value between -1e-4 and 1.0001 then least(greatest(value, 0), 1)
                when value > '-infinity' and value < 'infinity' then 'NaN' end
$$;

-- The log loss of the chance that was given to what came true, clipped to [1e-6, 1 - 1e-6].
create function gnomon_estimators.log_loss(chance float8) returns float8 language sql immutable parallel safe as
$$
    select case when chance between -1e-4 and 1.0001 then -ln(least(greatest(chance, 1e-6), 1 - 1e-6))
                when chance > '-infinity' and chance < 'infinity' then 'NaN' end
$$;

-- The status of a metric of probabilities where a value is none.
create function gnomon_estimators.no_probabilities() returns text language sql immutable parallel safe as
$$ select 'no probabilities: an answer lies outside of 0 to 1' $$;

-- 95% interval of a share θ with variance v, whose interval reaches t standard errors (null: z). Korn and Graubard (1998):
-- the beta interval of Clopper and Pearson at the effective size θ(1-θ)/v · (z/t)², never above n_effective: Kish's, of the
-- rows that the share is of. Where v is 0, nothing varied, which is not certainty: then the latter, a cluster being one row
-- at most. Wilson's interval, which costs nothing, where more than 60 effective rows fall on either side and the two hardly
-- differ.
create function gnomon_estimators.share_interval(share float8, variance float8, n_effective float8, t float8,
                                                 clusters bigint, out low float8, out high float8)
    language plpgsql immutable parallel safe as
$$
declare
    z constant float8 := gnomon_estimators.reach(null);
    n float8;
    spread float8;
begin
    if share is null or n_effective is null or n_effective <= 0 then return; end if;
    -- Nearer to 0 than rounding is from a variance of 0.
    if variance > 1e-26 and share > 0 and share < 1 then
        n := least(n_effective, share * (1 - share) / variance * (z / coalesce(t, z)) ^ 2);
    else
        n := least(n_effective, clusters);
    end if;
    if n * least(share, 1 - share) > 60 then
        spread := z * sqrt(share * (1 - share) / n + z * z / (4 * n * n));
        low := (share + z * z / (2 * n) - spread) / (1 + z * z / n);
        high := (share + z * z / (2 * n) + spread) / (1 + z * z / n);
        return;
    end if;
    low := case when share <= 0 then 0
                else gnomon_estimators.beta_quantile(0.025, share * n, (1 - share) * n + 1) end;
    high := case when share >= 1 then 1
                 else gnomon_estimators.beta_quantile(0.975, share * n + 1, (1 - share) * n) end;
end
$$;

-- 95% interval by kind: 'share' as above; anything else estimate ± t standard errors, and none where the variance is 0
-- (to rounding, of numbers as large as `scale`): that nothing varied is not certainty.
create function gnomon_estimators.interval95(kind text, estimate float8, variance float8, n_effective float8, t float8,
                                             clusters bigint, scale float8, out low float8, out high float8)
    language sql immutable parallel safe as
$$
    select i.low, i.high
    from gnomon_estimators.share_interval(estimate, variance, n_effective, t, clusters) i where kind = 'share'
    union all
    select estimate - r.reach, estimate + r.reach
    from (select coalesce(t, gnomon_estimators.reach(null)) * sqrt(variance) as reach
          where variance > 1e-26 * greatest(estimate, -estimate, scale, -scale) ^ 2) r
    where kind <> 'share'
$$;

-- What days like these may bring: the variance of an estimate out of the sums of squares of its residuals, added up
-- first by nothing (v_row), by cluster, by local day, and by cluster within day. Each has its factor for few groups,
-- n/(n-1) (n null: the rows have theirs already). Rows that share a cluster and rows that share a day: V = max(V_c, V_d,
-- V_c + V_d - V_cd) (Cameron, Gelbach and Miller 2011). A 95% interval reaches t standard errors, so that it is the widest
-- of three: V_c with the clusters' degrees of freedom, V_d with the days', and the two together with the fewer of both.
-- One day says nothing about the variation between days, and one cluster nothing about that between clusters: then there is no
-- variance. v_both null: not known; v_row stands for it, which is rather too small, and the variance rather too large.
create function gnomon_estimators.spread(v_row float8, v_cluster float8, v_day float8, v_both float8, n bigint,
                                         clusters bigint, days bigint, cells bigint, out se_row float8,
                                         out se_cluster float8, out se_day float8, out variance float8, out t float8)
    language sql immutable parallel safe as
$$
    select sqrt(v.r), sqrt(v.c), sqrt(v.d), w.variance,
           greatest(sqrt(w.c / nullif(w.variance, 0)) * gnomon_estimators.reach(coalesce(clusters, n) - 1),
                    sqrt(v.d / nullif(w.variance, 0)) * gnomon_estimators.reach(days - 1),
                    sqrt(greatest(w.together, 0) / nullif(w.variance, 0))
                    * gnomon_estimators.reach(least(coalesce(clusters, days), days) - 1))
    from (select v_row * case when n is null then 1 else n / nullif(n - 1, 0)::float8 end as r,
                 v_cluster * (clusters / nullif(clusters - 1, 0)::float8) as c,
                 v_day * (days / nullif(days - 1, 0)::float8) as d,
                 v_both * (cells / nullif(cells - 1, 0)::float8) as b) v
    cross join lateral (select coalesce(v.c, v.r) as c, coalesce(v.c, v.r) + v.d - coalesce(v.b, v.r) as together) x
    cross join lateral (select x.c, x.together,
                               case when days > 1 and coalesce(clusters, 2) > 1
                                    then greatest(x.c, v.d, x.together) end as variance) w
$$;

-- The status of an estimate that has its numbers: why it has no interval, or that the interval rests on little.
create function gnomon_estimators.footing(clusters bigint, days bigint, low float8) returns text
    language sql immutable parallel safe as
$$
    select case when days = 1 then 'one day only: no interval for days like these'
                when clusters = 1 then 'one cluster only: no interval'
                when low is null then 'too little varies: no interval'
                when days < 5 then format('the interval rests on %s days', days)
                when clusters < 20 then format('the interval rests on %s clusters', clusters)
                else 'ok' end
$$;

-- What one cell adds to the variance of drawing the sample: (1 - π) k/(k-1) (Σ r² - (Σ r)²/k), k rows drawn of the cell
-- with probability π (Särndal, Swensson and Wretman 1992, 3.7; R's svydesign with strata and fpc). `pairs` of the k rows
-- have residuals, the others' are 0. kept: Σ r² (π - 1/w), where the service itself kept each capture with probability
-- 1/(w π), on its own.
create function gnomon_estimators.cell_variance(chance float8, sampled bigint, pairs bigint, total float8,
                                                squares float8, kept float8)
    returns float8 language sql immutable parallel safe as
$$
    select (1 - chance) * k / greatest(k - 1, 1) * greatest(squares - total ^ 2 / k, 0) + greatest(kept, 0)
    from (select greatest(sampled, pairs)::float8 as k) size
$$;

-- 95% interval for the traffic of the period itself, from the variance of drawing the sample. Where every capture was
-- sampled (the weights add up to the rows) nothing is unsure.
create function gnomon_estimators.period_interval(kind text, estimate float8, variance float8, n_effective float8,
                                                  n bigint, weight float8, scale float8, out low float8,
                                                  out high float8)
    language sql immutable parallel safe as
$$
    select estimate, estimate where variance is not null and abs(weight - n) <= 1e-9 * n
    union all
    select i.low, i.high
    from gnomon_estimators.interval95(kind, estimate, variance, n_effective, null, null, scale) i
    where variance is not null and abs(weight - n) > 1e-9 * n
$$;
