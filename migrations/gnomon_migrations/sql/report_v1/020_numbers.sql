-- Special functions that PostgreSQL lacks, and the intervals made of them. Formulas: Abramowitz and Stegun, Handbook
-- of Mathematical Functions, 6.1.41 (Stirling), 26.5.8 (incomplete beta as a continued fraction), 6.5.29 (incomplete
-- gamma as a series).
create function report_v1.ln_gamma(x float8) returns float8 language plpgsql immutable strict parallel safe as
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
create function report_v1.beta_cdf(x float8, a float8, b float8) returns float8
    language plpgsql immutable strict parallel safe as
$$
declare
    fraction float8 := 1;
begin
    if x <= 0 then return 0; end if;
    if x >= 1 then return 1; end if;
    if x > (a + 1) / (a + b + 2) then return 1 - report_v1.beta_cdf(1 - x, b, a); end if;
    for m in reverse 50 + (3 * sqrt(greatest(a, b)))::integer..1 loop
        fraction := 1 - (a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)) / fraction;
        fraction := 1 + m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)) / fraction;
    end loop;
    fraction := 1 - (a + b) * x / (a + 1) / fraction;
    return exp(greatest(report_v1.ln_gamma(a + b) - report_v1.ln_gamma(a) - report_v1.ln_gamma(b)
                        + a * ln(x) + b * ln(1 - x), -700)) / (a * fraction);
end
$$;

-- The x with P(Beta(a, b) <= x) = p: Newton's steps, halving the bracket where one would leave it.
create function report_v1.beta_quantile(p float8, a float8, b float8) returns float8
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
    scale := report_v1.ln_gamma(a + b) - report_v1.ln_gamma(a) - report_v1.ln_gamma(b);
    for n in 1..60 loop
        off := report_v1.beta_cdf(x, a, b) - p;
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
create function report_v1.chi2_quantile(p float8, df float8) returns float8
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
        if total * exp(a * ln(middle / 2) - middle / 2 - report_v1.ln_gamma(a)) < p then
            low := middle;
        else
            high := middle;
        end if;
    end loop;
    return (low + high) / 2;
end
$$;

-- 95% interval of a share θ with variance v. Korn and Graubard (1998): the beta interval of Clopper and Pearson at the
-- effective size θ(1-θ)/v, or Kish's where v is 0 (nothing varied, which is not certainty). Wilson's interval, which
-- costs nothing, where more than 60 effective rows fall on either side and the two hardly differ.
create function report_v1.share_interval(share float8, variance float8, n_effective float8, out low float8,
                                         out high float8)
    language plpgsql immutable parallel safe as
$$
declare
    n float8;
    spread float8;
begin
    if share is null or n_effective is null or n_effective <= 0 then return; end if;
    n := case when variance > 0 and share > 0 and share < 1
              then share * (1 - share) / variance else n_effective end;
    if n * least(share, 1 - share) > 60 then
        spread := 1.96 * sqrt(share * (1 - share) / n + 0.9604 / (n * n));
        low := (share + 1.9208 / n - spread) / (1 + 3.8416 / n);
        high := (share + 1.9208 / n + spread) / (1 + 3.8416 / n);
        return;
    end if;
    low := case when share <= 0 then 0
                else report_v1.beta_quantile(0.025, share * n, (1 - share) * n + 1) end;
    high := case when share >= 1 then 1
                 else report_v1.beta_quantile(0.975, share * n + 1, (1 - share) * n) end;
end
$$;

-- 95% interval by kind: 'share' as above, anything else the normal one.
create function report_v1.interval95(kind text, estimate float8, variance float8, n_effective float8, out low float8,
                                     out high float8)
    language sql immutable parallel safe as
$$
    select i.low, i.high
    from report_v1.share_interval(estimate, variance, n_effective) i where kind = 'share'
    union all
    select estimate - 1.959964 * sqrt(variance), estimate + 1.959964 * sqrt(variance) where kind <> 'share'
$$;
