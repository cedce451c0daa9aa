-- Budget windows, and the output bounds that depend on them; loaded after _common.lua by scripts that need it.

-- The number of windows, then for each: field, unit from 1, enforce|shadow, limit, another limit and when that ends
-- (both "" for none), and three candidates of start and end.
local function take_windows()
  local windows = {}
  for index = 1, take_integer('number of windows') do
    local window = { field = take_word('field'), unit = take_integer('unit') }
    if window.unit < 1 or window.unit > UNITS then refuse('unit', window.unit) end
    window.enforced = take_choice('mode', { enforce = true, shadow = true }) == 'enforce'
    window.configured = take_integer('limit')
    window.other = take_optional(take_integer, 'other limit')
    window.other_until = take_optional(take_integer, 'end of the other limit')
    window.spans = {}
    for candidate = 1, 3 do
      window.spans[candidate] = { take_integer('start'), take_integer('end') }
    end
    windows[index] = window
  end
  return windows
end

-- The number of bounds, at least one, then for each, the tightest first: its tokens, and the worst case under it, an
-- amount for each unit.
local function take_bounds()
  local bounds = {}
  for index = 1, take_integer('number of bounds') do
    bounds[index] = { tokens = take_integer('bound'), worst = take_amounts('amount') }
  end
  if #bounds == 0 then refuse('number of bounds', 0) end
  return bounds
end

-- Gives each window the candidate that contains now; false if one has none (the caller's clock is wrong).
local function choose(windows, now)
  for _, window in ipairs(windows) do
    for _, span in ipairs(window.spans) do
      if span[1] <= now and now < span[2] then window.span = span end
    end
    if not window.span then return false end
    window.name = window.field .. '|' .. text(window.span[1])
    window.now = now
  end
  return true
end

-- The limit in force: an operator's temporary one, the configuration's temporary one, or the window's own, plus credit.
local function limit_of(window, stored)
  local limit = window.configured
  if window.other and window.other_until and window.now < window.other_until then limit = window.other end
  if stored then
    local changed, deadline = string.match(stored, '^(%d+);(%d+)$')
    if not changed then
      set_aside('limit', window.field, stored)
      redis.call('HDEL', WIN, window.field .. ':l')
    elseif window.now < tonumber(deadline) then
      limit = tonumber(changed)
    end
  end
  return math.min(AMOUNT_MAX, limit + tonumber(window.credit))
end

-- Reads the counters and limits of the chosen windows. `taken` is everything that counts as used.
local function refresh(windows)
  if #windows == 0 then return end
  local fields = {}
  for _, window in ipairs(windows) do
    for _, kind in ipairs({ ':s', ':h', ':u' }) do fields[#fields + 1] = window.name .. kind end
    fields[#fields + 1] = window.field .. ':c'
    fields[#fields + 1] = window.field .. ':l'
  end
  local values = redis.call('HMGET', WIN, unpack(fields))
  for index, window in ipairs(windows) do
    local at = 5 * index - 4
    window.settled, window.held = whole(fields[at], values[at]), whole(fields[at + 1], values[at + 1])
    window.unresolved = whole(fields[at + 2], values[at + 2])
    window.taken = tonumber(window.settled) + tonumber(window.held) + tonumber(window.unresolved)
    window.credit = whole(fields[at + 3], values[at + 3])
    window.limit = limit_of(window, values[at + 4])
  end
end

-- {code, now, payload, then for each window: start, end, settled, held, unresolved, limit, credit}
local function answer(code, now, payload, windows)
  local reply = { code, text(now), payload }
  for _, window in ipairs(windows) do
    reply[#reply + 1] = text(window.span[1])
    reply[#reply + 1] = text(window.span[2])
    reply[#reply + 1] = window.settled
    reply[#reply + 1] = window.held
    reply[#reply + 1] = window.unresolved
    reply[#reply + 1] = text(window.limit)
    reply[#reply + 1] = window.credit
  end
  return reply
end
