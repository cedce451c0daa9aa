-- Decides in one step: cached, followed, failed, refused, absent, or reserved.
--
-- KEYS  res win exp gc log gen lead (see _common.lua)
-- ARGV  1 hold id                     2 fingerprint
--       3 use|refresh|bypass|only_if_cached
--       4 oldest result that will do, in ms, or ""
--       5 hold whose outcome this caller waited for, or ""
--       6 lease of the hold, ms       7 how long resolved holds and past windows are kept, ms
--       8 charge|release: what becomes of a sent hold that expires
--       9 to 12 amounts               13 number of windows, then the windows (take_windows)
-- Returns {code, now_ms, payload, then for each window: start, end, settled, held}
--       hit      payload: the result as gen keeps it
--       follow   payload: the leader's hold id
--       failed   payload: the failure that the followed leader published
--       refused | absent | lead
--       over     payload: the state of a hold of this id that has ended
--       conflict a hold of this id exists for other work or other amounts
--       clock    no candidate of a window contains now; no windows follow

local hold = take_word('hold')
local fingerprint = take_word('fingerprint')
local mode = take_choice('mode', { use = true, refresh = true, bypass = true, only_if_cached = true })
local max_age = take_optional(take_integer, 'max age')
local following = take_optional(take_word, 'following')
local lease = take_integer('lease')
local keep = take_integer('keep')
local unknown = take_choice('unknown', { charge = true, release = true })
local est = take_amounts('amount')
local windows = take_windows()
take_nothing_more()
if lease == 0 then refuse('lease', lease) end

local now = server_now()
if not choose(windows, now) then return answer('clock', now, '', {}) end

-- The counters that a hold is booked in: budgets that differ in limit or mode alone share one.
local function counters_of()
  local counters, seen = {}, {}
  for _, window in ipairs(windows) do
    if not seen[window.name] then
      seen[window.name] = true
      counters[#counters + 1] = window
    end
  end
  return counters
end

local function described(counters)
  local parts = {}
  for index, window in ipairs(counters) do
    parts[index] = table.concat(
      { window.unit, text(window.span[1]), text(window.span[2]), window.field }, '@')
  end
  return table.concat(parts, ',')
end

-- The same call again, after its first answer was lost.
local earlier = read_record(hold)
if earlier then
  local same = earlier.fingerprint == fingerprint and csv(earlier.est) == csv(est)
  if same then expire_if_due(earlier, now, keep, unknown) end
  refresh(windows)
  if not same then return answer('conflict', now, '', windows) end
  if is_open(earlier) then return answer('lead', now, '', windows) end
  return answer('over', now, earlier.state, windows)
end

if mode ~= 'bypass' then
  local result = redis.call('GET', GEN)
  local purged = purged_until(result)
  if result and tonumber(string.match(result, '^[^;]+;(%d+);')) > purged then
    local leader, created = string.match(result, '^([^;]+);(%d+);')
    local young = not max_age or now - tonumber(created) <= max_age
    if leader == following or (mode ~= 'refresh' and young) then
      refresh(windows)
      return answer('hit', now, result, windows)
    end
  end
  if mode == 'only_if_cached' then
    refresh(windows)
    return answer('absent', now, '', windows)
  end
  local lead = redis.call('GET', LEAD)
  local leading = lead and purged >= 0 and read_record(lead)
  if leading and leading.t0 <= purged then
    lead = nil -- its result will not be kept, so nobody follows it any more
  elseif lead and string.sub(lead, 1, 1) == '!' then
    local failed, failure = string.match(lead, '^!([^;]*);(.*)$')
    if failed == following then
      refresh(windows)
      return answer('failed', now, failure, windows)
    end
  elseif lead and lead ~= hold then
    refresh(windows)
    return answer('follow', now, lead, windows)
  end
end

local function fits()
  for _, window in ipairs(windows) do
    local amount = est[window.unit]
    local sum = tonumber(window.settled) + tonumber(window.held) + amount
    if window.enforced and amount > 0 and sum > window.limit then return false end
    if sum > COUNTER_MAX then error('INVALID counter ' .. window.name .. ': it would overflow') end
  end
  return true
end

-- Dead holds never refuse a live request: sweep for as long as that frees anything, within bounds.
sweep(now, keep, unknown, 32)
purge(now, keep, 32)
refresh(windows)
local room = fits()
local rounds = 0
while not room and rounds < 40 and sweep(now, keep, unknown, 256) > 0 do
  rounds = rounds + 1
  refresh(windows)
  room = fits()
end
if not room then return answer('refused', now, '', windows) end

local counters = counters_of()
for _, window in ipairs(counters) do
  increase(window.name .. ':h', est[window.unit])
  redis.call('ZADD', GC, 'NX', text(window.span[2] + keep), 'w;' .. window.name)
end
redis.call('ZADD', EXP, text(now + lease), hold)
write_records({ {
  hold = hold, state = 'h', flags = mode == 'bypass' and '' or 'f', t0 = now, fingerprint = fingerprint,
  est = est, act = {}, windows = described(counters),
} })
if mode ~= 'bypass' then redis.call('SET', LEAD, hold, 'PX', text(lease)) end
refresh(windows)
return answer('lead', now, '', windows)
