-- Who generates each piece of work (LEAD); stands behind _common.lua where a script needs it.

-- Who generates this work now, or how the last one failed; nil where nobody does, or has for too long.
local function read_lead(fingerprint, now)
  local raw = redis.call('HGET', LEAD, fingerprint)
  if not raw then return nil end
  local mark, hold, ends, failure = string.match(raw, '^(!?)([^;]*);(%d+);(.*)$')
  if not ends then
    set_aside('lead', fingerprint, raw)
    redis.call('HDEL', LEAD, fingerprint)
  end
  if not ends or tonumber(ends) <= now then return nil end
  return { failed = mark == '!', hold = hold, failure = failure }
end

local function write_lead(fingerprint, hold, now, lasts, failure)
  local ends = text(now + lasts)
  local mark = failure and '!' or ''
  redis.call('HSET', LEAD, fingerprint, table.concat({ mark .. hold, ends, failure or '' }, ';'))
  redis.call('ZADD', GC, ends, 'l;' .. fingerprint)
end

local function drop_lead(fingerprint)
  redis.call('HDEL', LEAD, fingerprint)
  redis.call('ZREM', GC, 'l;' .. fingerprint)
end

-- A failure with all that was said of it, where the cache still has that; else as it stands in the ledger.
local function whole_failure(hold, short)
  local whose, failure = string.match(redis.call('GET', FAIL) or '', '^([^;]*);(.*)$')
  return whose == hold and failure or short
end
