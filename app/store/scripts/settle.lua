#!lua flags=allow-oom
-- Ends a hold, keeps its result, wakes its followers.
--
-- KEYS  res win exp gc log use gen lead (see _common.lua), and idem where the caller sent a key (see _claims.lua)
-- ARGV  1 wake channel   2 hold id   3 fingerprint   4 settle|void|charge   5, 6 keep (take_keep)
--       7 charge|release   8 the result as JSON, or ""   9 how long it is kept, ms (0 without a result)
--      10 the failure as JSON, or ""     11 how long followers are told of it, ms
--      12 claim on the idempotency key, or ""   13 how long what becomes of it is kept, ms
--      14 what becomes of it: d done, f failed and paid, u unknown, or "" to give it back   15 d, f: as JSON
--      16 to 19 amounts   20 to 23 tokens: text_input, image_input, text_output, thinking
--      then whose usage it is (take_usage)
-- Returns {code, state, repeated, late, published, now_ms, then for each counter: unit, start, end, settled,
--          held, field, credit, stored limit or ""}; code is done | unknown | conflict, flags are "0" and "1".
--
--            held, dispatched     expired (x)        charged (c)              settled (s)       voided (v)
--   settle   -> s                 -> s, late         -> s, late: act for est  same act: repeat  conflict
--   void     -> v                 -> v, late         -> v, late: est taken    conflict          repeat
--   charge   -> c                 -> c, late         repeat                   conflict          conflict

local channel = take_word('channel')
local hold = take_word('hold')
local fingerprint = take_word('fingerprint')
local outcome = take_choice('outcome', { settle = true, void = true, charge = true })
local keep = take_keep()
local unknown = take_choice('unknown', { charge = true, release = true })
local result = take('result')
local ttl = take_integer('ttl')
local failure = take('failure')
local tombstone = take_integer('tombstone')
local claim, claim_kept = take_claim()
local claim_state = take_optional(take_word, 'state of the claim')
local claim_record = take('record of the claim')
local act = take_amounts('amount')
local tokens = take_amounts('tokens')
local usage = take_usage()
take_nothing_more()
if result ~= '' and ttl == 0 then refuse('ttl of a result', ttl) end
if failure ~= '' and tombstone == 0 then refuse('time of a failure', tombstone) end

local now = server_now()
local STATES = { settle = 's', void = 'v', charge = 'c' }

local function names_of(record)
  local names = {}
  for index, counter in ipairs(record.counters) do names[index] = counter.name end
  return names
end

local function reply(code, record, repeated)
  local found = {
    code, record.state, repeated and '1' or '0', flagged(record, 'l') and '1' or '0',
    flagged(record, 'p') and '1' or '0', text(now),
  }
  for index, state in ipairs(read_counters(names_of(record))) do
    local counter = record.counters[index]
    local terms = redis.call('HMGET', WIN, counter.field .. ':c', counter.field .. ':l')
    local entry = {
      text(counter.unit), counter.start, counter.stop, state.settled, state.held, counter.field,
      terms[1] or '0', terms[2] or '',
    }
    for _, value in ipairs(entry) do found[#found + 1] = value end
  end
  return found
end

local record = read_record(hold)
if not record then return { 'unknown', '', '0', '0', '0', text(now) } end
if record.fingerprint ~= fingerprint then return reply('conflict', record, false) end

for _, state in ipairs(read_counters(names_of(record))) do
  if tonumber(state.settled) + AMOUNT_MAX > COUNTER_MAX then error('INVALID counter: it would overflow') end
end

expire_if_due(record, now, keep, unknown)

if record.state == STATES[outcome] then
  local same = outcome ~= 'settle' or csv(record.act) == csv(act)
  return reply(same and 'done' or 'conflict', record, same)
end
if record.state == 's' or record.state == 'v' then return reply('conflict', record, false) end

local corrected = record.state == 'c'
resolve(record, STATES[outcome], act, now, keep)
if corrected then count_usage(day_of(record.t0), { { UNATTRIBUTED, used(record.est, -1) } }, 0) end
if outcome == 'settle' then
  local numbers = used(act, 1)
  for index, count in ipairs(tokens) do numbers[UNITS + 1 + index] = count end
  count_used(usage, record.t0, now, numbers)
elseif outcome == 'charge' then
  count_usage(day_of(record.t0), { { UNATTRIBUTED, used(record.est, 1) } }, 0)
end

-- The fence: only the one who leads may publish, or who led when nobody has led since; after a purge nobody
-- who began before it.
local lead = redis.call('GET', LEAD)
local mine = lead and (lead == hold or string.sub(lead, 1, #hold + 2) == '!' .. hold .. ';')
local function superseded()
  local kept = redis.call('GET', GEN)
  if not kept then return false end
  local created = string.match(kept, '^[^;]+;(%d+);')
  return tonumber(created) >= record.t0
end
if flagged(record, 'f') then
  local purged = record.t0 <= purged_until(redis.call('GET', GEN))
  if purged then result = '' end
  if result ~= '' and (mine or (not lead and not superseded())) then
    redis.call('SET', GEN, table.concat({ hold, text(now), csv(booked_at(record)), result }, ';'), 'PX', text(ttl))
    redis.call('DEL', LEAD)
    record.flags = record.flags .. 'p'
  elseif mine and failure ~= '' then
    redis.call('SET', LEAD, '!' .. hold .. ';' .. failure, 'PX', text(tombstone))
  elseif mine then
    redis.call('DEL', LEAD)
  end
  redis.call('PUBLISH', channel, hold)
end
if claim and claim_state then
  local found = read_claim()
  if found and found.claim == claim then
    write_claim(claim, fingerprint, claim_state, '', text(now), claim_record, claim_kept)
  end
else
  drop_claim(claim)
end
write_records({ record })
return reply('done', record, false)
