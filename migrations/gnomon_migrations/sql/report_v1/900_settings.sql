-- Planner notes 1 and 2. Stock servers compile a statement (`jit`, on by default up to PostgreSQL 18) if its estimated
-- cost is high. The statements of the estimators have hundreds of expressions, and compiling them takes 16 to 220 times
-- as long as running them. So each function that plans its own statement (recognised by its settings) runs with `jit`
-- off, and so do the reports that only compute with the rows of such functions: an SQL client of a stock server would
-- wait for them. The other functions are inlined into the calling statement, which a setting would prevent.
do $$
declare
    planned regprocedure;
begin
    for planned in
        select p.oid::regprocedure from pg_proc p
        where p.pronamespace in ('gnomon_estimators'::regnamespace, 'report_v1'::regnamespace)
          and p.proretset
          and (p.proconfig is not null
               or p.pronamespace = 'report_v1'::regnamespace
                  and p.proname in ('agreement', 'calibration', 'calibration_error', 'classes', 'errors', 'heterogeneity',
                                    'label_bounds', 'latency', 'matches', 'quality', 'segments', 'time_of_day',
                                    'truth_confusion'))
    loop
        execute format('alter function %s set jit = off', planned);
    end loop;
end
$$;
