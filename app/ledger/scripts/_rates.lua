-- Request rates and caps on open holds (docs/reliability.md R20); loaded after _common.lua by scripts that need it.
--
-- A rate is a bucket of `burst` requests that leaks `limit` a minute (GCRA); a cap counts open holds.
--   WIN "<field>:t"     when the bucket will be empty, in microseconds of the store's clock; an end user's is deleted then
--   WIN "<field>|0:h"   open holds under the cap; each names the cap in its record, as unit 0, so that
--                       whatever ends the hold, its lease included, gives the place back

local MINUTE_US = 60000000

-- How many, then for each: requests|concurrent, field, limit from 1 on, burst (0 for a cap).
local function take_rates()
  local rates = {}
  for index = 1, take_integer('number of rates') do
    local rate = {
      kind = take_choice('kind', { requests = true, concurrent = true }), field = take_word('field'),
      limit = take_integer('limit'), burst = take_integer('burst'),
    }
    if rate.limit < 1 or (rate.kind == 'requests' and rate.burst < 1) then refuse('rate', rate.limit) end
    rate.counter = rate.kind == 'requests' and rate.field .. ':t' or rate.field .. '|0:h'
    rates[index] = rate
  end
  return rates
end

-- Reads the level of each rate, in microseconds of a bucket or in open holds.
local function read_rates(rates, now)
  if #rates == 0 then return end
  local names = {}
  for index, rate in ipairs(rates) do names[index] = rate.counter end
  for index, value in ipairs(redis.call('HMGET', WIN, unpack(names))) do
    local rate = rates[index]
    rate.level = tonumber(value or '0') or 0
    if rate.kind == 'requests' then
      -- Even after the clock was set back or a burst was reduced, the level is at most a full bucket.
      rate.interval = MINUTE_US / rate.limit
      rate.level = math.min(math.max(rate.level - now * 1000, 0), rate.burst * rate.interval)
    end
  end
end

local function room_of(rate)
  if rate.kind == 'concurrent' then return math.max(0, rate.limit - rate.level) end
  -- The thousandth makes up for intervals that no double holds.
  return math.floor((rate.burst * rate.interval - rate.level) / rate.interval + 0.001)
end

-- Whether every rate of this kind has room for `count` more; marks those that refuse.
local function within(rates, kind, count)
  local roomy = true
  for _, rate in ipairs(rates) do
    rate.refused = rate.kind == kind and count > room_of(rate)
    roomy = roomy and not rate.refused
  end
  return roomy
end

-- Counts `count` requests in every bucket.
local function count_requests(rates, count, now)
  for _, rate in ipairs(rates) do
    if rate.kind == 'requests' and count > 0 then
      rate.level = rate.level + count * rate.interval
      redis.call('HSET', WIN, rate.counter, text(now * 1000 + rate.level))
      local user, empty = user_of(rate.field), now + math.ceil(rate.level / 1000)
      if user then
        note_user(user, empty, now)
        redis.call('ZADD', GC, 'GT', text(empty), 't;' .. rate.counter)
        purge(now, holds_keep, 2) -- hits are counted too, and nothing else purges after them
      end
    end
  end
end

-- Takes a place under every cap for a hold; returns the counters for the hold's record.
local function take_places(rates, now, keep)
  local places = {}
  for _, rate in ipairs(rates) do
    if rate.kind == 'concurrent' then
      rate.level = rate.level + 1
      increase(rate.counter, 1)
      redis.call('ZADD', GC, 'NX', text(now + keep_of(rate.field, keep)), 'w;' .. rate.field .. '|0')
      places[#places + 1] = { unit = 0, start = '0', stop = '0', field = rate.field }
    end
  end
  return places
end

-- Adds to a reply for each rate: what is left, ms until the next one, ms until nothing is used, "1" where it refuses.
local function append_rates(reply, rates)
  for _, rate in ipairs(rates) do
    local left, retry, full = room_of(rate), 0, 0
    if rate.kind == 'requests' then
      full = math.ceil(rate.level / 1000)
      if left < 1 then retry = math.ceil((rate.level - (rate.burst - 1) * rate.interval) / 1000) end
    end
    for _, number in ipairs({ left, retry, full, rate.refused and 1 or 0 }) do
      reply[#reply + 1] = text(number)
    end
  end
  return reply
end
