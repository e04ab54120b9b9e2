-- A new text of the estimators may compute other values than the stored ones, and rights of dropped views are gone.
select gnomon.forget_computed_estimates();
select gnomon.grant_roles();
