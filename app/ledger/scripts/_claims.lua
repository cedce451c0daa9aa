-- Idempotency keys (docs/reliability.md R25); stands behind _common.lua where a script needs it.
--
-- KEYS  8 idem  HASH    digest -> "<claim>;<fingerprint>;<state>;<hold>;<created_ms>;<ends_ms>;<cost>;<outcome>"
--                                                                                     never a TTL
--       9 ends  ZSET    digest -> when the key may be used again (ms); exactly the digests of idem    never a TTL
--      16 old   STRING  the key as earlier versions kept it, with its result in it; it is only read    always a TTL
--   claim    names the request that uses the key, over all of its admissions
--   state    r runs: its hold leads, or nothing where it waits for another's
--            d done      f failed, and paid
--            u unknown: nobody knows what came of it, and it is not done again before ends_ms
--   cost     what this request paid: the amounts that were booked, of the first units (REPORTED in _common.lua), then
--            the tokens that Google reported, in the order of app/ledger/codec.py; empty before its end
--   outcome  d: the id of the generation, which is kept elsewhere      f: the failure as JSON, cut short
--
-- A record is small whatever the result was, so that no key ever has to be given up for memory: it stands until
-- ends_ms, and the number of keys is bounded.

local IDEM, ENDS, OLD = KEYS[8], KEYS[9], KEYS[16]
local FREE = '0,0,0,0,0,0,0,0,0,0,0,0' -- what a hit paid
local digest

-- The claim and its digest, or twice "", then how long the key is kept once it is answered, ms.
local function take_claim()
  local claim = take_optional(take_word, 'claim')
  digest = take_optional(take_word, 'digest')
  local kept = take_integer('time of a claim')
  if claim and (not OLD or not digest or kept == 0) then refuse('claim', claim) end
  return claim, kept
end

local function read_old(now)
  local raw = redis.call('GET', OLD)
  if not raw then return nil end
  local claim, fingerprint, state, hold, created, record = string.match(raw, '^([^;]*);([^;]*);(%a);([^;]*);(%d+);(.*)$')
  if not claim then return nil end
  return {
    claim = claim, fingerprint = fingerprint, state = state, hold = hold, created = created,
    ends = now + redis.call('PTTL', OLD), cost = '', outcome = state == 'f' and record or '',
    result = state == 'd' and record or '',
  }
end

-- What the key stands for, or nil where it may be used.
local function read_claim(now)
  local raw = redis.call('HGET', IDEM, digest)
  if not raw then return read_old(now) end
  local claim, fingerprint, state, hold, created, ends, cost, outcome =
    string.match(raw, '^([^;]*);([^;]*);(%a);([^;]*);(%d+);(%d+);([^;]*);(.*)$')
  if not ends then
    set_aside('claim', digest, raw)
    redis.call('HDEL', IDEM, digest)
    redis.call('ZREM', ENDS, digest)
  end
  if not ends or tonumber(ends) <= now then return nil end
  return {
    claim = claim, fingerprint = fingerprint, state = state, hold = hold, created = created,
    ends = tonumber(ends), cost = cost, outcome = outcome, result = '',
  }
end

local function write_claim(claim, fingerprint, record, now, kept)
  local ends = text(now + kept)
  redis.call('HSET', IDEM, digest, table.concat({
    claim, fingerprint, record.state, record.hold or '', record.created or text(now), ends, record.cost or '',
    record.outcome or '',
  }, ';'))
  redis.call('ZADD', ENDS, ends, digest)
end

-- Gives the key back, if it is still this request's.
local function drop_claim(claim, now)
  if not claim then return end
  local found = read_claim(now)
  if found and found.claim == claim then
    redis.call('HDEL', IDEM, digest)
    redis.call('ZREM', ENDS, digest)
  end
end

-- Forgets at most `limit` keys whose time is over.
local function prune_claims(now, limit)
  local due = redis.call('ZRANGE', ENDS, '-inf', text(now), 'BYSCORE', 'LIMIT', 0, limit)
  if #due == 0 then return end
  redis.call('HDEL', IDEM, unpack(due))
  redis.call('ZREM', ENDS, unpack(due))
end

-- Whether the tenant has as many keys as it may; if so, the ms until the first of them ends.
local function crowded(now, most)
  prune_claims(now, 256)
  if redis.call('ZCARD', ENDS) < most then return nil end
  local first = redis.call('ZRANGE', ENDS, 0, 0, 'WITHSCORES')
  return math.max(0, tonumber(first[2] or '0') - now)
end
