#!lua flags=allow-oom
-- Ends a hold, keeps its result, wakes its followers.
--
-- KEYS  res win exp gc log use lead idem ends ops opends calls callends users gen fail (see _common.lua), and old if the caller
--       sent a key (see _claims.lua)
-- ARGV  in the order in which they are taken below:
--       channel           on which followers are woken
--       hold, fingerprint
--       outcome           settle|void|charge
--       keep              see take_keep
--       unknown           charge|release
--       result, ttl       the result as JSON, or "", and how long it is kept, ms (0 without a result)
--       failure           as JSON, cut short, or ""
--       whole failure     as JSON, or "" if there is no room for it
--       tombstone         how long followers get the failure, ms
--       claim             on the idempotency key, see take_claim
--       state of the claim    d done, f failed and paid, u unknown, or "" to free the key
--       outcome of the claim  d: id of the generation; f: the failure
--       tokens of the claim   all that Google reported, with commas (see _claims.lua)
--       attempt           see take_attempt
--       amount            what was used, one for each unit
--       unresolved amount what to keep unresolved beside it
--       row               what is reported of it if it settles, see take_row
--       parts             of the row, by service tier, see take_parts
--       usage             its attribution, see take_usage
-- Returns {code, state, repeated, late, published, now_ms, record, then for each counter: unit, start, end, settled,
--          held, unresolved, field, credit, stored limit or ""}; code is done | unknown | conflict, flags are "0" and "1".
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
local unknown_outcome = take_choice('unknown_outcome', { charge = true, release = true })
local result = take('result')
local ttl = take_integer('ttl')
local failure, whole = take('failure'), take('whole failure')
local tombstone = take_integer('tombstone')
local claim, claim_kept, original = take_claim()
original = original or fingerprint
local claim_state = take_optional(take_word, 'state of the claim')
local claim_outcome = take('outcome of the claim')
local reported = take('tokens of the claim')
local attempt = take_attempt()
local act, rest = take_amounts('amount'), take_amounts('unresolved amount')
local row = take_row()
local parts = take_parts()
local usage = take_usage()
take_nothing_more()
if result ~= '' and ttl == 0 then refuse('ttl of a result', ttl) end
if not string.match(reported, '^[%d,]*$') then refuse('tokens of the claim', reported) end
if failure ~= '' and tombstone == 0 then refuse('time of a failure', tombstone) end

local now = server_now()
local STATES = { settle = 's', void = 'v', charge = 'c' }

local function names_of(record)
  local names = {}
  for index, counter in ipairs(record.counters) do names[index] = counter.name end
  return names
end

local function reply(code, record, repeated)
  local fields = {
    code, record.state, repeated and '1' or '0', flagged(record, 'l') and '1' or '0',
    flagged(record, 'p') and '1' or '0', text(now), format_record(record),
  }
  for index, state in ipairs(read_counters(names_of(record))) do
    local counter = record.counters[index]
    local changes = redis.call('HMGET', WIN, counter.field .. ':c', counter.field .. ':l')
    local entry = {
      text(counter.unit), counter.start, counter.stop, state.settled, state.held, state.unresolved,
      counter.field, changes[1] or '0', changes[2] or '',
    }
    for _, value in ipairs(entry) do fields[#fields + 1] = value end
  end
  return fields
end

local record = read_record(hold)
if not record then return { 'unknown', '', '0', '0', '0', text(now), '' } end
if record.fingerprint ~= shorten(fingerprint) then return reply('conflict', record, false) end

for _, state in ipairs(read_counters(names_of(record))) do
  if tonumber(state.settled) + AMOUNT_MAX > COUNTER_MAX then error('INVALID counter: it would overflow') end
end

expire_if_due(record, now, keep, unknown_outcome)

if record.state == STATES[outcome] then
  local same = outcome ~= 'settle'
    or (csv(record.act) == csv(act) and csv(unresolved_of(record)) == csv(rest))
  return reply(same and 'done' or 'conflict', record, same)
end
if record.state == 's' or record.state == 'v' then return reply('conflict', record, false) end

if record.state == 'c' then count_usage(day_of(record.t0), { { UNATTRIBUTED, used(booked_at(record), -1) } }) end
resolve(record, STATES[outcome], act, rest, now, keep)
if outcome == 'settle' then
  count_used(usage, record.t0, now, row, parts)
elseif outcome == 'charge' then
  count_usage(day_of(record.t0), { { UNATTRIBUTED, used(booked_at(record), 1) } })
end

-- The fence: only the leader may publish, or a former leader without a successor; after a purge, no hold that began
-- before it.
local lead = read_lead(fingerprint, now)
local mine = lead and lead.hold == hold
local function superseded()
  local kept = read_result(fingerprint)
  if not kept then return false end
  local created = string.match(kept, '^[^;]+;(%d+);')
  return tonumber(created) >= record.t0
end
if flagged(record, 'f') then
  local purged = record.t0 <= purged_until(fingerprint, read_result(fingerprint))
  if purged then result = '' end
  if result ~= '' and (mine or (not lead and not superseded())) then
    redis.call('SET', GEN, table.concat({ hold, text(now), csv(booked_at(record)), result }, ';'), 'PX', text(ttl))
    drop_lead(fingerprint)
    record.flags = record.flags .. 'p'
  elseif mine and failure ~= '' then
    write_lead(fingerprint, hold, now, tombstone, failure)
  elseif mine then
    drop_lead(fingerprint)
  end
end
if attempt then end_call(attempt, record, failure, now) end
if attempt or flagged(record, 'f') then redis.call('PUBLISH', channel, hold) end
if whole ~= '' then
  local kept_ms = claim_state == 'f' and claim_kept or tombstone
  redis.call('SET', FAIL, hold .. ';' .. whole, 'PX', text(kept_ms))
end
if claim and claim_state then
  -- If the store has lost the key, it is written again: what was paid is not paid twice.
  local current = read_claim(now)
  if not current or current.claim == claim then
    local cost = csv({ unpack(booked_at(record), 1, REPORTED) }) .. ',' .. reported
    local ended = { state = claim_state, hold = hold, cost = cost, outcome = claim_outcome }
    write_claim(claim, original, ended, now, claim_kept)
  end
else
  drop_claim(claim, now)
end
write_records({ record })
-- The log of earlier versions. An admission must not delete it, because a full store lets a script go on that has written.
redis.call('DEL', LOG)
return reply('done', record, false)
