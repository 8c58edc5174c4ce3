"""Functions that auditors' SQL may call: an allow-list, so that a new DuckDB adds nothing.

Left out on purpose: whatever reads settings, files, variables, other queries or the clock of
the machine in a second way; whatever builds strings of a chosen length (`repeat`, `lpad`,
`printf`: they escape DuckDB's memory and time limits); sleeping; logging; JSON and geometry.
"""

from __future__ import annotations

_OPERATORS = """
!= !~~ !~~* % & * ** + - -> / // < << <= <=> = > >= >> @> <@ ^ ^@ | || ~ ~~ ~~* ~~~ @ && xor
not_like_escape like_escape ilike_escape not_ilike_escape
"""
_NUMBERS = """
abs add ceil ceiling cbrt degrees divide even exp factorial floor fdiv fmod gcd greatest
greatest_common_divisor isfinite isinf isnan lcm least least_common_multiple ln log log10 log2
mod multiply pi pow power radians round round_even sign signbit sqrt subtract trunc
bit_count acos asin atan atan2 cos cot sin tan
"""
_TEXT = """
array_to_string ascii bit_length char_length character_length chr concat concat_ws contains
ends_with instr lcase left len length lower ltrim md5 nfc_normalize ord position prefix
regexp_extract regexp_extract_all regexp_full_match regexp_matches regexp_replace replace reverse
right rtrim sha256 split split_part starts_with str_split string_split string_to_array strip_accents
strlen strpos substr substring suffix translate trim ucase unicode upper format_bytes
"""
_TIMES = """
age century date_add date_diff date_part date_sub date_trunc datediff datepart datesub datetrunc
day dayname dayofmonth dayofweek dayofyear decade epoch epoch_ms epoch_us hour isodow isoyear
last_day make_date make_time make_timestamp microsecond millennium millisecond minute month
monthname quarter second strftime strptime time_bucket to_days to_hours to_microseconds
to_milliseconds to_minutes to_months to_seconds to_timestamp to_weeks to_years try_strptime week
weekday weekofyear year yearweek current_date now get_current_timestamp today
"""
_LISTS = """
array_contains array_distinct array_extract array_has array_has_all array_has_any array_length
array_position array_slice array_sort array_unique element_at flatten list_any_value list_append
list_apply list_avg list_cat list_concat list_contains list_count list_distinct list_element
list_extract list_filter list_first list_has list_has_all list_has_any list_indexof list_intersect
list_last list_max list_median list_min list_pack list_position list_prepend list_reverse
list_reverse_sort list_slice list_sort list_string_agg list_sum list_transform list_unique
list_value list_zip apply array_transform array_filter cardinality map map_contains map_entries
map_extract map_from_entries map_keys map_values row struct_extract struct_pack unnest
"""
_OTHERS = "coalesce hash if nullif typeof ifnull alias error row_number"
_AGGREGATES = """
any_value approx_count_distinct approx_quantile approx_top_k arbitrary arg_max arg_max_null
arg_min arg_min_null argmax argmin array_agg avg bit_and bit_or bit_xor bool_and bool_or corr
count count_if count_star countif covar_pop covar_samp entropy favg first fsum geomean
geometric_mean group_concat histogram kahan_sum kurtosis last list listagg mad max max_by mean
median min min_by mode product quantile quantile_cont quantile_disc regr_avgx regr_avgy regr_count
regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy sem skewness stddev stddev_pop
stddev_samp string_agg sum sumkahan var_pop var_samp variance weighted_avg wavg
"""
_WINDOWS = """
cume_dist dense_rank fill first_value lag last_value lead nth_value ntile percent_rank rank
rank_dense row_number
"""

FUNCTIONS: frozenset[str] = frozenset(
    word
    for group in (_OPERATORS, _NUMBERS, _TEXT, _TIMES, _LISTS, _OTHERS, _AGGREGATES, _WINDOWS)
    for word in group.split()
)
TABLE_FUNCTIONS: frozenset[str] = frozenset({"generate_series", "range", "unnest"})
