-- Who generates each piece of work (LEAD); loaded after _common.lua by scripts that need it.

-- The current leader of this work, or how the last one failed; nil if there is none or its time has ended.
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

-- The whole failure if it is still cached; else the short one from the ledger.
local function whole_failure(hold, short)
  local whose, failure = string.match(redis.call('GET', FAIL) or '', '^([^;]*);(.*)$')
  return whose == hold and failure or short
end
