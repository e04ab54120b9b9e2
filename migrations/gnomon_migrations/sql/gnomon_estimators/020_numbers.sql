-- Special functions that PostgreSQL lacks, and the intervals computed with them. Formulas: Abramowitz and Stegun,
-- Handbook of Mathematical Functions, 6.1.41 (Stirling), 26.5.8 (incomplete beta as a continued fraction).
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

-- The continued fraction of the incomplete beta function, term by term until it converges (Lentz 1976): about ten
-- terms, whereas a fixed number would have to grow with a and b.
create function gnomon_estimators.beta_fraction(x float8, a float8, b float8) returns float8
    language plpgsql immutable strict parallel safe as
$$
declare
    upper float8 := 1;
    lower float8 := 1 / (1 - (a + b) * x / (a + 1));
    fraction float8 := lower;
    term float8;
begin
    for m in 1..10000 loop
        term := m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        upper := 1 + term / upper;
        lower := 1 / (1 + term * lower);
        fraction := fraction * upper * lower;
        term := -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        upper := 1 + term / upper;
        lower := 1 / (1 + term * lower);
        fraction := fraction * upper * lower;
        exit when abs(upper * lower - 1) <= 2e-16;
    end loop;
    return fraction;
end
$$;

-- x²: 0 if it underflows, null beyond the range of a double. PostgreSQL aborts a statement whose product under- or
-- overflows, and some classifiers answer 1e-200.
create function gnomon_estimators.square(x float8) returns float8 language sql immutable parallel safe as
$$
    select case when x between -1e-70 and 1e-70 then 0 when x between -1e150 and 1e150 then x * x end
$$;

-- x, or 0 if the square of its residual would underflow.
create function gnomon_estimators.flushed(x float8) returns float8 language sql immutable parallel safe as
$$
    select case when x between -1e-70 and 1e-70 then 0 else x end
$$;

-- P(Beta(a, b) <= x); scale: ln Γ(a + b) - ln Γ(a) - ln Γ(b), if the caller has it.
create function gnomon_estimators.beta_cdf(x float8, a float8, b float8, scale float8 default null) returns float8
    language plpgsql immutable parallel safe as
$$
declare
    density float8;
begin
    if x <= 0 then return 0; end if;
    if x >= 1 then return 1; end if;
    density := exp(greatest(a * ln(x) + b * ln(1 - x)
        + coalesce(scale, gnomon_estimators.ln_gamma(a + b) - gnomon_estimators.ln_gamma(a) - gnomon_estimators.ln_gamma(b)),
        -700));
    if x > (a + 1) / (a + b + 2) then return 1 - density / b * gnomon_estimators.beta_fraction(1 - x, b, a); end if;
    return density / a * gnomon_estimators.beta_fraction(x, a, b);
end
$$;

-- The x with P(Beta(a, b) <= x) = p: Newton's steps, or halving the bracket if a step would leave it.
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
        off := gnomon_estimators.beta_cdf(x, a, b, scale) - p;
        if off < 0 then low := x; else high := x; end if;
        step := off / exp(greatest(scale + (a - 1) * ln(x) + (b - 1) * ln(1 - x), -500));
        exit when abs(step) <= 1e-15 * x or high - low <= 1e-15 * x;
        x := x - step;
        if x <= low or x >= high then
            x := (low + high) / 2;
        elsif abs(step) <= 1e-9 * x then
            exit; -- the next step would be about the square of this one
        end if;
    end loop;
    return x;
end
$$;

-- The number of standard errors from the estimate to either end of a 95% interval: the quantile of Student's t with df
-- degrees of freedom (a whole number), the normal quantile if df is null. Up to 199 degrees from a table, which
-- test_special_functions checks: every interval needs it three times. From 200 on, the expansion around the normal
-- quantile z (Abramowitz and Stegun, 26.7.5).
create function gnomon_estimators.reach(df float8) returns float8 language sql immutable parallel safe as
$$
    select case when df is null then z
                when df >= 200
                then z + (z ^ 3 + z) / (4 * df) + (5 * z ^ 5 + 16 * z ^ 3 + 3 * z) / (96 * df ^ 2)
                     + (3 * z ^ 7 + 19 * z ^ 5 + 17 * z ^ 3 - 15 * z) / (384 * df ^ 3)
                     + (79 * z ^ 9 + 776 * z ^ 7 + 1482 * z ^ 5 - 1920 * z ^ 3 - 945 * z) / (92160 * df ^ 4)
                when df >= 1 then ('{
12.706204736175,4.3026527297495,3.1824463052837,2.7764451051978,2.5705818356363,2.446911851145,2.3646242515928,
2.3060041352042,2.2621571627982,2.2281388519863,2.2009851600916,2.1788128296672,2.1603686564628,2.1447866879178,
2.1314495455598,2.1199052992213,2.1098155778333,2.100922040241,2.0930240544083,2.0859634472659,2.0796138447277,
2.073873067904,2.068657610419,2.063898561628,2.0595385527533,2.0555294386429,2.0518305164803,2.0484071417952,
2.0452296421327,2.0422724563012,2.0395134463964,2.0369333434601,2.0345152974493,2.0322445093177,2.0301079282503,
2.0280940009805,2.0261924630291,2.024394163912,2.0226909200368,2.0210753903063,2.0195409704414,2.0180817028184,
2.0166921992278,2.0153675744438,2.0141033888808,2.0128955989194,2.0117405137298,2.0106347576242,2.0095752371292,
2.0085591121008,2.0075837703158,2.0066468050617,2.0057459953179,2.0048792881881,2.0040447832891,2.0032407188479,
2.002465459291,2.0017174841452,2.0009953780883,2.0002978220143,1.9996235849949,1.9989715170334,1.9983405425207,
1.9977296543177,1.997137908392,1.9965644189523,1.9960083540253,1.9954689314298,1.9949454151072,1.9944371117712,
1.9939433678456,1.9934635666619,1.9929971258899,1.9925434951809,1.9921021540022,1.9916726096447,1.9912543953884,
1.9908470688117,1.9904502102301,1.9900634212544,1.9896863234569,1.9893185571366,1.9889597801752,1.9886096669757,
1.9882679074772,1.987934206239,1.9876082815891,1.9872898648312,1.9869786995063,1.9866745407038,1.9863771544186,
1.9860863169511,1.9858018143458,1.9855234418666,1.9852510035055,1.9849843115225,1.984723186014,1.9844674545085,
1.9842169515864,1.9839715185236,1.9837310029556,1.9834952585629,1.9832641447735,1.9830375264837,1.982815273795,
1.9825972617655,1.9823833701757,1.9821734833077,1.9819674897365,1.9817652821324,1.9815667570749,1.9813718148763,
1.9811803594147,1.9809922979759,1.9808075411039,1.9806260024591,1.9804475986834,1.980272249273,1.9800998764569,
1.9799304050824,1.9797637625054,1.9795998784866,1.9794386850933,1.9792801166049,1.9791241094238,1.9789706019906,
1.9788195347029,1.9786708498378,1.9785244914793,1.978380405447,1.9782385392304,1.9780988419241,1.9779612641677,
1.9778257580871,1.9776922772393,1.9775607765589,1.9774312123082,1.9773035420277,1.9771777244903,1.9770537196571,
1.9769314886343,1.9768109936329,1.9766921979298,1.9765750658304,1.9764595626329,1.9763456545938,1.9762333088953,
1.9761224936137,1.9760131776892,1.9759053308966,1.9757989238179,1.9756939278153,1.9755903150052,1.9754880582343,
1.9753871310551,1.9752875077034,1.9751891630766,1.9750920727121,1.9749962127675,1.9749015600008,1.9748080917518,
1.9747157859238,1.9746246209664,1.9745345758585,1.9744456300924,1.974357763658,1.9742709570281,1.9741851911433,
1.974100447399,1.974016707631,1.9739339541031,1.9738521694945,1.9737713368875,1.9736914397561,1.9736124619544,
1.9735343877061,1.9734572015938,1.9733808885488,1.9733054338415,1.9732308230715,1.9731570421592,1.9730840773359,
1.9730119151363,1.9729405423894,1.9728699462109,1.9728001139954,1.9727310334089,1.9726626923813,1.9725950790997,
1.9725281820013,1.9724619897672,1.9723964913156,1.9723316757957,1.9722675325821,1.9722040512684,1.972141221662,
1.9720790337785,1.9720174778363,1.9719565442518}'::float8[])[df::integer] end
    from (values (1.959963984540054::float8)) normal(z)
$$;

-- A value as a probability: 0 or 1 if it is outside of them only by rounding. Any other finite number is not a
-- probability and becomes NaN, so that the mean of values with a single one of them is NaN, and never the mean of the
-- others (`estimates`).
create function gnomon_estimators.probability(value float8) returns float8 language sql immutable parallel safe as
$$
    select case when value between -1e-4 and 1.0001 then least(greatest(value, 0), 1)
                when value > '-infinity' and value < 'infinity' then 'NaN' end
$$;

-- The log loss of the probability that was given to the true class, clipped to [1e-6, 1 - 1e-6].
create function gnomon_estimators.log_loss(probability float8) returns float8 language sql immutable parallel safe as
$$
    select case when probability between -1e-4 and 1.0001 then -ln(least(greatest(probability, 1e-6), 1 - 1e-6))
                when probability > '-infinity' and probability < 'infinity' then 'NaN' end
$$;

-- The status of a metric of probabilities if a value is not a probability.
create function gnomon_estimators.no_probabilities() returns text language sql immutable parallel safe as
$$ select 'no probabilities: an answer lies outside of 0 to 1' $$;

-- 95% interval of a share θ with variance v, whose interval reaches t standard errors (null: z). Korn and Graubard
-- (1998): the beta interval of Clopper and Pearson at the effective size θ(1-θ)/v · (z/t)², never above n_effective:
-- Kish's, of the rows of the share. If v is 0, nothing varied, which is not certainty: then n_effective, in which a
-- cluster is one row at most. Wilson's interval, which is cheaper, if more than 60 effective rows are on either side,
-- where the two hardly differ.
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
    -- As near to 0 as rounding makes a variance of 0.
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

-- 95% interval by kind: 'share' as above; any other kind estimate ± t standard errors, and none if the variance is 0
-- (within rounding, of numbers as large as `scale`), because no variation is not certainty.
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

-- The variance of an estimate for days like these, from the sums of squares of its residuals, which are summed first by
-- nothing (v_row), by cluster, by local day, and by cluster within day. Each has its factor for few groups, n/(n-1) (n
-- null: the rows already include it). For rows that share a cluster and rows that share a day, V = max(V_c, V_d, V_c +
-- V_d - V_cd) (Cameron, Gelbach and Miller 2011). A 95% interval reaches t standard errors, so that it is the widest of
-- three: V_c with the clusters' degrees of freedom, V_d with the days', and the two together with the fewer of both.
-- One day shows nothing about the variation between days, and one cluster nothing about that between clusters: then
-- there is no variance. free_clusters, free_days: those that the estimate depends on, if not all do (the others'
-- residuals are 0); their numbers decide the degrees of freedom, as in R's degf of a subset. v_both null: not known; v_row replaces it, which is rather too small and makes the variance
-- rather too large.
create function gnomon_estimators.spread(v_row float8, v_cluster float8, v_day float8, v_both float8, n bigint,
                                         clusters bigint, days bigint, cells bigint,
                                         free_clusters bigint default null, free_days bigint default null,
                                         out se_row float8, out se_cluster float8, out se_day float8,
                                         out variance float8, out t float8)
    language sql immutable parallel safe as
$$
    select sqrt(v.r), sqrt(v.c), sqrt(v.d), w.variance,
           greatest(sqrt(w.c / nullif(w.variance, 0))
                    * gnomon_estimators.reach(coalesce(free_clusters, clusters, n) - 1),
                    sqrt(v.d / nullif(w.variance, 0)) * gnomon_estimators.reach(coalesce(free_days, days) - 1),
                    sqrt(greatest(w.together, 0) / nullif(w.variance, 0))
                    * gnomon_estimators.reach(least(coalesce(free_clusters, clusters), coalesce(free_days, days)) - 1))
    from (select v_row * case when n is null then 1 else n / nullif(n - 1, 0)::float8 end as r,
                 v_cluster * (clusters / nullif(clusters - 1, 0)::float8) as c,
                 v_day * (days / nullif(days - 1, 0)::float8) as d,
                 v_both * (cells / nullif(cells - 1, 0)::float8) as b) v
    cross join lateral (select coalesce(v.c, v.r) as c, coalesce(v.c, v.r) + v.d - coalesce(v.b, v.r) as together) x
    cross join lateral (select x.c, x.together,
                               case when coalesce(free_days, days) > 1 and coalesce(free_clusters, clusters, 2) > 1
                                    then greatest(x.c, v.d, x.together) end as variance) w
$$;

-- The status of an estimate that has its numbers: why it has no interval, or that the interval is based on few data.
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

-- The contribution of one cell to the variance of drawing the sample: (1 - π) k/(k-1) (Σ r² - (Σ r)²/k), k rows drawn
-- from the cell with probability π (Särndal, Swensson and Wretman 1992, 3.7; R's svydesign with strata and fpc). It is
-- one expression so that it is inlined, because there may be as many cells as pairs. `pairs` of the k rows have
-- residuals, the others' are 0. kept: Σ r² (π - 1/w), if the service itself kept each capture with probability 1/(w π),
-- independently. draw: if less than 1, the cell's partition was drawn first, with this probability, which is part of
-- π; then 1 - π becomes draw - π, and the partitions that were not drawn add (1 - draw) (Σ r)² (two stages: Särndal,
-- Swensson and Wretman 1992, 4.3; partitions as if each was drawn by itself, which is rather too wide).
create function gnomon_estimators.cell_variance(pi float8, draw float8, sampled bigint, pairs bigint, total float8,
                                                squares float8, kept float8)
    returns float8 language sql immutable parallel safe as
$$
    select greatest(coalesce(draw, 1) - pi, 0)
           * greatest(sampled, pairs)::float8 / greatest(greatest(sampled, pairs)::float8 - 1, 1)
           * greatest(squares - total ^ 2 / greatest(sampled, pairs)::float8, 0)
           + (1 - coalesce(draw, 1)) * total ^ 2 + greatest(kept, 0)
$$;

-- 95% interval for the traffic of the period itself, from the variance of drawing the sample. If every capture was
-- sampled (the weights add up to the rows), nothing is uncertain.
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
