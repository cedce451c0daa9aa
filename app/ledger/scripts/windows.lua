-- The current windows and rates, after expired holds were cleared away; reserves nothing.
--
-- KEYS  res win exp gc log use (see _common.lua)
-- ARGV  keep (take_keep), unknown outcome (charge|release), windows (take_windows), rates (take_rates)
-- Returns {ok | clock, now_ms, "", then for each window: start, end, settled, held, unresolved, limit, credit, then for
--          each rate: left, retry_ms, full_ms, refused}

local keep = take_keep()
local unknown_outcome = take_choice('unknown_outcome', { charge = true, release = true })
local windows = take_windows()
local rates = take_rates()
take_nothing_more()

local now = server_now()
if not choose(windows, now) then return answer('clock', now, '', {}) end
sweep(now, keep, unknown_outcome, 256)
refresh(windows)
read_rates(rates, now)
within(rates, 'requests', 1)
return append_rates(answer('ok', now, '', windows), rates)
