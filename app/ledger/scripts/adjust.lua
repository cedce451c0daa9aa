#!lua flags=allow-oom
-- Changes what a budget allows: adds or takes credit, or sets a temporary limit.
--
-- KEYS  res win exp gc log use (see _common.lua)
-- ARGV  keep (ms), windows (take_windows; exactly one), then
--       credit, id of the credit, add|take, amount
--       or limit, the limit, when it ends (ms; 0 ends it now)
-- Returns {ok | short | conflict | clock, now_ms, number of the change or "", start, end, settled, held, unresolved, limit,
--          credit}
--       short     there is less credit than was to be taken
--       conflict  a credit of this id was of another amount or for another budget
--
-- The id of a credit is kept as long as resolved holds are, so that repeating it changes nothing.

local keep = take_integer('keep')
local windows = take_windows()
local action = take_choice('action', { credit = true, limit = true })
if #windows ~= 1 then refuse('number of windows', #windows) end
local window = windows[1]

local now = server_now()
if not choose(windows, now) then return answer('clock', now, '', {}) end

local function done(code, number)
  refresh(windows)
  return answer(code, now, number or '', windows)
end

if action == 'limit' then
  local limit, deadline = take_integer('limit'), take_integer('end of the limit')
  take_nothing_more()
  local term, number = text(limit) .. ';' .. text(deadline), text(take_number())
  redis.call('HSET', WIN, window.field .. ':n', number)
  if deadline > now then
    redis.call('HSET', WIN, window.field .. ':l', term)
  else
    redis.call('HDEL', WIN, window.field .. ':l')
  end
  return done('ok', number)
end

local id = 'credit.' .. take_word('id of the credit')
local direction = take_choice('direction', { add = 1, take = -1 })
local amount = take_integer('amount')
take_nothing_more()
local entry = table.concat({ 'credit', window.field, direction, text(amount) }, ';')
local earlier = redis.call('HGET', RES, id)
if earlier then
  local same = string.sub(earlier, 1, #entry) == entry and string.match(string.sub(earlier, #entry + 1), '^;?(%d*)$')
  return done(same and 'ok' or 'conflict', same or nil)
end

local change = direction == 'add' and amount or -amount
local sum = tonumber(redis.call('HGET', WIN, window.field .. ':c') or '0') + change
if sum < 0 or sum > AMOUNT_MAX then return done('short') end
increase(window.field .. ':c', change)
local number = text(take_number())
redis.call('HSET', RES, id, entry .. ';' .. number)
redis.call('ZADD', GC, text(now + keep), 'r;' .. id)
return done('ok', number)
