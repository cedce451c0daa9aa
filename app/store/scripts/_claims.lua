-- Idempotency keys (docs/reliability.md R25); stands behind _common.lua where a script needs it.
--
-- KEYS  9 idem  STRING  "<claim>;<fingerprint>;<state>;<hold id or nothing>;<created_ms>;<record>"   always a TTL
--   claim   names the request that uses the key, over all of its admissions
--   state   r runs: its hold leads, or nothing where it waits for another's
--           d done: record is the result as JSON      f failed, and paid: record is the failure as JSON
--           u unknown: nobody knows what came of it, and it is not done again before this key is gone

local IDEM = KEYS[9]

-- The claim or "", then how long an answered one is kept, ms.
local function take_claim()
  local claim = take_optional(take_word, 'claim')
  local kept = take_integer('time of a claim')
  if claim and (not IDEM or kept == 0) then refuse('claim', claim) end
  return claim, kept
end

local function read_claim()
  local raw = redis.call('GET', IDEM)
  if not raw then return nil end
  local claim, fingerprint, state, hold, created, record =
    string.match(raw, '^([^;]*);([^;]*);(%a);([^;]*);(%d+);(.*)$')
  return {
    claim = claim, fingerprint = fingerprint, state = state, hold = hold, created = created, record = record,
  }
end

local function write_claim(claim, fingerprint, state, hold, created, record, ttl)
  redis.call('SET', IDEM, table.concat({ claim, fingerprint, state, hold, created, record }, ';'), 'PX', text(ttl))
end

-- Gives the key back, if it is still this request's.
local function drop_claim(claim)
  if not claim then return end
  local found = read_claim()
  if found and found.claim == claim then redis.call('DEL', IDEM) end
end
