-- An estimate from the sums of squares of its residuals, by nothing, by cluster, by local day and by cluster within
-- day: standard errors, the 95% interval for days like these, and the reason if there is none. free_clusters, free_days:
-- as in `spread`.
create function gnomon_estimators.bounded(kind text, estimate float8, v_row float8, v_cluster float8, v_day float8,
                                          v_both float8, n bigint, clusters bigint, days bigint, cells bigint,
                                          n_effective float8, free_clusters bigint default null,
                                          free_days bigint default null, out se_row float8, out se_cluster float8,
                                          out se_day float8, out standard_error float8, out low float8,
                                          out high float8, out status text)
    language sql immutable parallel safe as
$$
    select s.se_row, s.se_cluster, s.se_day, sqrt(s.variance), i.low, i.high,
           gnomon_estimators.footing(coalesce(free_clusters, bounded.clusters), coalesce(free_days, bounded.days), i.low)
    from gnomon_estimators.spread(v_row, v_cluster, v_day, v_both, n, bounded.clusters, bounded.days, cells,
                                  free_clusters, free_days) s
    left join lateral gnomon_estimators.interval95(kind, estimate, s.variance, n_effective, s.t,
                                                   coalesce(free_clusters, bounded.clusters), 1) i
        on s.variance is not null
$$;

-- P(χ² of df degrees of freedom > x): one minus the series of the incomplete gamma function (Abramowitz and Stegun,
-- 6.5.29).
create function gnomon_estimators.chi2_tail(x float8, df float8) returns float8
    language plpgsql immutable strict parallel safe as
$$
declare
    a float8 := df / 2;
    term float8 := 1 / nullif(a, 0); -- one value differs from nothing
    total float8 := term;
    n integer := 0;
begin
    if term is null then return null; end if;
    if x <= 0 then return 1; end if;
    -- The sum is about e^(x/2), which a double cannot hold from x = 1419 on; the tail is below 1e-50 long before.
    if x > 2 * df + 700 then return 0; end if;
    while term > total * 1e-15 loop
        n := n + 1;
        term := term * (x / 2) / (a + n);
        total := total + term;
    end loop;
    return greatest(1 - total * exp(greatest(a * ln(x / 2) - x / 2 - gnomon_estimators.ln_gamma(a), -700)), 0);
end
$$;
