-- Calls that clients retry on their own (docs/decisions/0047); loaded after _common.lua by scripts that need it.
--
-- KEYS 12 calls     HASH  origin -> a line for each call, in the order in which they began:
--                         "<hold>;<owner>;<until_ms>;<ended_ms>;<failure as JSON, cut short>"        never a TTL
--      13 callends  ZSET  origin -> when its calls are forgotten (ms); exactly the origins of calls  never a TTL
--   origin   what attempts at equal calls share: a digest of the gateway key and the work
--   owner    the attempt that the response is for; empty if that attempt is known to have ended
--   until    when the owner is assumed to have ended; 0 while the hold is open
--   ended    when the call ended, or 0
-- A call is kept until its response has reached a caller, or until it ended without a cost.

local CALLS, CALLENDS = KEYS[12], KEYS[13]
local CALLS_MAX = 64       -- of an origin
local ORIGINS_MAX = 10000  -- of a tenant

-- The attempt, or nil: its origin, its id, how long calls are kept, and how long an owner without news counts as alive.
local function take_attempt()
  local attempt = {
    origin = take_optional(take_word, 'origin'), id = take_optional(take_word, 'attempt'),
    kept = take_integer('time of a call'), lease = take_integer('lease of an owner'),
  }
  if not attempt.origin then return nil end
  if not attempt.id or attempt.kept == 0 or attempt.lease == 0 then refuse('attempt', attempt.id) end
  return attempt
end

local function forget_origins(origins)
  if #origins == 0 then return end
  redis.call('HDEL', CALLS, unpack(origins))
  redis.call('ZREM', CALLENDS, unpack(origins))
end

local function read_calls(origin)
  local calls = {}
  for line in string.gmatch(redis.call('HGET', CALLS, origin) or '', '[^\n]+') do
    local hold, owner, till, ended, failure = string.match(line, '^([^;]*);([^;]*);(%d+);(%d+);(.*)$')
    if hold then
      calls[#calls + 1] =
        { hold = hold, owner = owner, till = tonumber(till), ended = tonumber(ended), failure = failure }
    else
      set_aside('call', origin, line)
    end
  end
  return calls
end

local function write_calls(attempt, calls, now)
  if #calls == 0 then return forget_origins({ attempt.origin }) end
  local lines = {}
  for index, call in ipairs(calls) do
    lines[index] = table.concat({ call.hold, call.owner, text(call.till), text(call.ended), call.failure }, ';')
  end
  redis.call('HSET', CALLS, attempt.origin, table.concat(lines, '\n'))
  redis.call('ZADD', CALLENDS, text(now + attempt.kept), attempt.origin)
end

-- Deletes at most `limit` origins that have expired.
local function prune_calls(now, limit)
  forget_origins(redis.call('ZRANGE', CALLENDS, '-inf', text(now), 'BYSCORE', 'LIMIT', 0, limit))
end

-- Records the call of a new hold; above the limits, the oldest are deleted.
local function add_call(attempt, hold, now)
  local calls = read_calls(attempt.origin)
  if #calls >= CALLS_MAX then table.remove(calls, 1) end
  calls[#calls + 1] = { hold = hold, owner = attempt.id, till = 0, ended = 0, failure = '' }
  write_calls(attempt, calls, now)
  if redis.call('ZCARD', CALLENDS) > ORIGINS_MAX then forget_origins(redis.call('ZRANGE', CALLENDS, 0, 0)) end
end

-- Records the end of a call's hold; a call that was not settled is deleted.
local function end_call(attempt, record, failure, now)
  local calls, left = read_calls(attempt.origin), {}
  for _, call in ipairs(calls) do
    if call.hold == record.hold then
      call.ended, call.failure = now, failure
      if call.till == 0 then call.till = now + attempt.lease end
    end
    if call.hold ~= record.hold or record.state == 's' then left[#left + 1] = call end
  end
  if #calls > 0 then write_calls(attempt, left, now) end
end
