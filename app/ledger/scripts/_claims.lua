-- Idempotency keys (docs/reliability.md R25); loaded after _common.lua by scripts that need it.
--
-- KEYS  8 idem  HASH    digest -> "<claim>;<original>;<state>;<hold>;<created_ms>;<ends_ms>;<cost>;<outcome>"
--                                                                                     never a TTL
--       9 ends  ZSET    digest -> when the key may be used again (ms); exactly the digests of idem    never a TTL
--      17 old   STRING  the key as earlier versions kept it, with its result in it; it is only read    always a TTL
--   claim    identifies the request that uses the key, across all of its admissions
--   original the fingerprint of what was requested; that of the work, unless another model than that one serves it
--   state    r running; the hold is empty while it waits for another request's result
--            d done      f failed, and paid
--            u unknown outcome: it is not executed again before ends_ms
--   cost     what this request paid: the booked amounts of the first units (REPORTED in _common.lua), then
--            the tokens that Google reported, in the order of app/ledger/codec.py; empty before its end
--   outcome  d: the id of the generation, which is kept elsewhere      f: the failure as JSON, cut short
-- A record is small whatever the result is, so that no key has to be dropped for lack of memory: it is kept until
-- ends_ms, and the number of keys is bounded.

local IDEM, ENDS, OLD = KEYS[8], KEYS[9], KEYS[17]
local FREE = '0,0,0,0,0,0,0,0,0,0,0,0' -- what a hit paid
local digest

-- The claim and its digest, or twice "", then how long the key is kept once it is answered, ms, then what was
-- requested, or "" if that is the work.
local function take_claim()
  local claim = take_optional(take_word, 'claim')
  digest = take_optional(take_word, 'digest')
  local kept = take_integer('time of a claim')
  if claim and (not OLD or not digest or kept == 0) then refuse('claim', claim) end
  return claim, kept, take_optional(take_word, 'original')
end

local function read_old(now)
  local raw = redis.call('GET', OLD)
  if not raw then return nil end
  local claim, original, state, hold, created, record = string.match(raw, '^([^;]*);([^;]*);(%a);([^;]*);(%d+);(.*)$')
  if not claim then return nil end
  return {
    claim = claim, original = original, state = state, hold = hold, created = created,
    ends = now + redis.call('PTTL', OLD), cost = '', outcome = state == 'f' and record or '',
    result = state == 'd' and record or '',
  }
end

-- The record of the key, or nil if the key may be used.
local function read_claim(now)
  local raw = redis.call('HGET', IDEM, digest)
  if not raw then return read_old(now) end
  local claim, original, state, hold, created, ends, cost, outcome =
    string.match(raw, '^([^;]*);([^;]*);(%a);([^;]*);(%d+);(%d+);([^;]*);(.*)$')
  if not ends then
    set_aside('claim', digest, raw)
    redis.call('HDEL', IDEM, digest)
    redis.call('ZREM', ENDS, digest)
  end
  if not ends or tonumber(ends) <= now then return nil end
  return {
    claim = claim, original = original, state = state, hold = hold, created = created,
    ends = tonumber(ends), cost = cost, outcome = outcome, result = '',
  }
end

local function write_claim(claim, original, record, now, kept)
  local ends = text(now + kept)
  redis.call('HSET', IDEM, digest, table.concat({
    claim, original, record.state, record.hold or '', record.created or text(now), ends, record.cost or '',
    record.outcome or '',
  }, ';'))
  redis.call('ZADD', ENDS, ends, digest)
end

-- Frees the key if it still belongs to this request.
local function drop_claim(claim, now)
  if not claim then return end
  local current = read_claim(now)
  if current and current.claim == claim then
    redis.call('HDEL', IDEM, digest)
    redis.call('ZREM', ENDS, digest)
  end
end

-- Deletes at most `limit` keys that have expired.
local function prune_claims(now, limit)
  local due = redis.call('ZRANGE', ENDS, '-inf', text(now), 'BYSCORE', 'LIMIT', 0, limit)
  if #due == 0 then return end
  redis.call('HDEL', IDEM, unpack(due))
  redis.call('ZREM', ENDS, unpack(due))
end

-- The ms until the tenant's first key expires if it has as many keys as it may; else nil.
local function crowded(now, most)
  prune_claims(now, 256)
  if redis.call('ZCARD', ENDS) < most then return nil end
  local first = redis.call('ZRANGE', ENDS, 0, 0, 'WITHSCORES')
  return math.max(0, tonumber(first[2] or '0') - now)
end
