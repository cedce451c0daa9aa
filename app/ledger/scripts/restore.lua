#!lua flags=allow-oom
-- Restores what the store has lost: counters from a checkpoint that is later than this ledger, then holds, each at most
-- once; and opens the ledger again (docs/decisions/0051).
--
-- KEYS  res win exp gc log use (see _common.lua)
-- ARGV  keep             see take_keep
--       lease            of open holds, ms
--       oldest           maximum age of restored holds, ms, or "" for any
--       unknown          charge|release
--       epoch            name of a new epoch, or "" to leave epochs alone
--       time closed      ms until the first admission in the new epoch
--       checkpoint       see take_checkpoint, or ""
--       adjustments      changes by operators: the number, then for each: credit|limit, number, id, field, value
--       records          the number of holds, then for each: hold id, record
-- Returns {name of the epoch or "", ms until the first admission, number of holds that were missing, what they had booked:
--         an amount for each unit, then for each counter that was raised: its name, by how much}
--
-- A hold that exists already is left as it is, unless the record knows its end and the ledger does not: one replica may
-- remember that a call was sent, and another that it was settled. An existing epoch stays. So any number of replicas may
-- restore what they know, in any order and repeatedly.

-- A checkpoint as checkpoint.lua returns it, nil for "": number, journal, keep of the journal's mark, counters, credit,
-- limits and open holds, each preceded by their number.
local function take_checkpoint()
  local number = take_optional(take_integer, 'number of the checkpoint')
  if not number then return nil end
  local checkpoint =
    { number = number, journal = take_word('journal'), keep = take_integer('keep'), counters = {}, credit = {}, limits = {}, open = {} }
  for index = 1, take_integer('number of counters') do
    checkpoint.counters[index] = {
      name = take_word('counter'), s = take_integer('settled'), u = take_integer('unresolved'), o = take_integer('overage'),
      till = take_integer('end of a counter'),
    }
  end
  for index = 1, take_integer('number of credits') do
    checkpoint.credit[index] = { field = take_word('field'), amount = take_integer('credit') }
  end
  for index = 1, take_integer('number of limits') do
    checkpoint.limits[index] = { field = take_word('field'), term = take('limit'), number = take_integer('number') }
  end
  for index = 1, take_integer('number of open holds') do checkpoint.open[index] = take_word('open hold') end
  return checkpoint
end

local function take_adjustments()
  local adjustments = {}
  for index = 1, take_integer('number of adjustments') do
    local kind = take_choice('adjustment', { credit = true, limit = true })
    adjustments[index] =
      { kind = kind, number = take_integer('number'), id = take('id'), field = take_word('field'), value = take('value') }
  end
  return adjustments
end

local function take_records()
  local records = {}
  for index = 1, take_integer('number of holds') do
    local hold = take_word('hold')
    local raw = take('record')
    local record = parse_record(hold, raw)
    if not record or #record.est ~= UNITS then refuse('record', raw) end
    records[index] = record
  end
  return records
end

local keep = take_keep()
local lease = take_integer('lease')
local oldest = take_optional(take_integer, 'oldest')
local unknown = take_choice('unknown', { charge = true, release = true })
local epoch = take_optional(take_word, 'epoch')
local closed = take_integer('time closed')
local checkpoint = take_checkpoint()
local adjustments = take_adjustments()
local records = take_records()
take_nothing_more()
if lease == 0 then refuse('lease', lease) end

local now = server_now()
local changes, count, rebased = {}, 0, false
local missing, put_back = {}, {}
for unit = 1, UNITS do missing[unit] = 0 end
local highest = tonumber(redis.call('HGET', WIN, NUMBER) or '0')
local based = tonumber(redis.call('HGET', WIN, BASED) or '0')
local open_then = {}
for hold in string.gmatch(redis.call('HGET', WIN, OPEN_THEN) or '', '[^,]+') do open_then[hold] = true end

local function epoch_now()
  return string.match(redis.call('HGET', WIN, EPOCH) or '', '^([^;]+);(%d+)$')
end

-- A hold that was open before a checkpoint but is not open in it had ended by then; nobody knows how, so it is treated as
-- if its lease had ended.
local function end_unseen(record)
  record.state = record.state == 'd' and unknown == 'charge' and 'c' or 'x'
end

local function is_unseen(record, number, opens)
  return is_open(record) and record.number > 0 and record.number <= number and not opens[record.hold]
end

local function unattributed(record, sign)
  count_usage(day_of(record.t0), { { UNATTRIBUTED, used(booked_at(record), sign) } })
end

-- The numbers of a counter by kind, in one command: a tenant may have many counters.
local function read_numbers(name)
  local values = redis.call('HMGET', WIN, name .. ':s', name .. ':u', name .. ':o', name .. ':p', name .. ':q')
  local stands = {}
  for index, kind in ipairs({ 's', 'u', 'o', 'p', 'q' }) do stands[kind] = tonumber(values[index] or '0') end
  return stands
end

-- The sums of this ledger's holds by counter, and the part of them that came after the checkpoint.
local function sum_holds(number, opens)
  local all, since = { s = {}, u = {} }, { s = {}, u = {} }
  local entries = redis.call('HGETALL', RES)
  for index = 1, #entries, 2 do
    local record = parse_record(entries[index], entries[index + 1])
    if record and is_unseen(record, number, opens) then
      for _, counter in ipairs(record.counters) do increase(counter.name .. ':h', -record.est[counter.unit]) end
      end_unseen(record)
      if record.state == 'c' then unattributed(record, 1) end
      redis.call('ZREM', EXP, record.hold)
      redis.call('ZADD', GC, text(now + keep), 'r;' .. record.hold)
      write_records({ record }, true)
    end
    if record and not is_open(record) then
      local booked, rest = booked_at(record), unresolved_of(record)
      local booked_then, rest_then = stood_at(record, number)
      for _, counter in ipairs(record.counters) do
        local unit = counter.unit
        if unit > 0 then
          all.s[counter.name] = (all.s[counter.name] or 0) + booked[unit]
          all.u[counter.name] = (all.u[counter.name] or 0) + rest[unit]
          since.s[counter.name] = (since.s[counter.name] or 0) + booked[unit] - booked_then[unit]
          since.u[counter.name] = (since.u[counter.name] or 0) + rest[unit] - rest_then[unit]
        end
      end
    end
  end
  return all, since
end

-- Net credit of each field after the checkpoint.
local function credit_since(number)
  local since, entries = {}, redis.call('HGETALL', RES)
  for index = 1, #entries, 2 do
    local field, direction, amount, at = string.match(entries[index + 1], '^credit;([^;]+);(%a+);(%d+);?(%d*)$')
    if field and (tonumber(at) or 0) > number then since[field] = (since[field] or 0) + (direction == 'add' and 1 or -1) * amount end
  end
  return since
end

local function set_limit(field, term, number)
  if number <= tonumber(redis.call('HGET', WIN, field .. ':n') or '0') then return end
  redis.call('HSET', WIN, field .. ':n', text(number))
  if term == '' then redis.call('HDEL', WIN, field .. ':l') else redis.call('HSET', WIN, field .. ':l', term) end
end

-- Rebuilds the ledger on the checkpoint: its values plus what the ledger's own holds have added since.
local function rebase()
  local number, opens = checkpoint.number, {}
  for _, hold in ipairs(checkpoint.open) do opens[hold] = true end
  local all, since = sum_holds(number, opens)
  local kept_of, active = { s = 'p', u = 'q' }, {}
  for _, counter in ipairs(checkpoint.counters) do
    if counter.till > now then
      local numbers = read_numbers(counter.name)
      for kind, forgotten in pairs(kept_of) do
        local stands = numbers[kind]
        local sum = math.max(0, counter[kind] + (since[kind][counter.name] or 0))
        if sum > stands and kind == 's' then
          put_back[#put_back + 1], put_back[#put_back + 2] = counter.name, text(sum - stands)
        end
        increase(counter.name .. ':' .. kind, sum - stands)
        local rest = sum - (all[kind][counter.name] or 0)
        increase(counter.name .. ':' .. forgotten, rest - numbers[forgotten])
      end
      increase(counter.name .. ':o', math.max(0, counter.o - numbers.o))
      redis.call('ZADD', GC, 'NX', text(counter.till), 'w;' .. counter.name)
      local user = user_of(counter.name)
      if user then active[user] = math.max(active[user] or 0, counter.till - USER_KEEP_MS) end
    end
  end
  for user, till in pairs(active) do note_user(user, till, now) end
  local credit = credit_since(number)
  for _, each in ipairs(checkpoint.credit) do
    redis.call('HSET', WIN, each.field .. ':c', text(math.max(0, each.amount + (credit[each.field] or 0))))
  end
  for _, each in ipairs(checkpoint.limits) do set_limit(each.field, each.term, each.number) end
  redis.call('HSET', WIN, BASED, text(number), OPEN_THEN, table.concat(checkpoint.open, ','))
  based, open_then, rebased = number, opens, true
end

-- Whether the restored record of a hold is further along than the existing one.
local function further(incoming, existing)
  if existing.state == 's' or existing.state == 'v' or is_open(incoming) or incoming.state == 'x' then return false end
  return incoming.state ~= 'c' or is_open(existing)
end

-- Books a restored hold, in place of the existing one if there is one: all of it that the checkpoint does not contain.
local function book(incoming, existing)
  local booked, rest, was, was_rest = booked_at(incoming), unresolved_of(incoming), NOTHING, NOTHING
  local booked_then, rest_then = stood_at(incoming, based)
  local was_then, was_rest_then = NOTHING, NOTHING
  if existing then
    was, was_rest = booked_at(existing), unresolved_of(existing)
    was_then, was_rest_then = stood_at(existing, based)
  end
  for _, counter in ipairs((existing or incoming).counters) do
    local name, unit = counter.name, counter.unit
    if existing and is_open(existing) then add(changes, name .. ':h', -existing.est[unit]) end
    local till, user = tonumber(counter.stop) + keep_of(counter.field, keep), user_of(counter.field)
    if unit > 0 and till > now then
      if is_open(incoming) then add(changes, name .. ':h', incoming.est[unit]) end
      local known, known_rest = booked_then[unit] - was_then[unit], rest_then[unit] - was_rest_then[unit]
      add(changes, name .. ':s', booked[unit] - was[unit] - known)
      add(changes, name .. ':p', -known)
      add(changes, name .. ':u', rest[unit] - was_rest[unit] - known_rest)
      add(changes, name .. ':q', -known_rest)
      -- What a late correction replaced is unknown: all of it may have been overage.
      local reserved = incoming.est[unit]
      if flagged(incoming, 'l') and not (existing and is_open(existing)) then reserved = was[unit] end
      if booked_then[unit] == 0 then add(changes, name .. ':o', math.max(0, booked[unit] - reserved)) end
      redis.call('ZADD', GC, 'NX', text(till), 'w;' .. name)
      if user then note_user(user, tonumber(counter.stop), now) end
    end
  end
  for unit = 1, UNITS do missing[unit] = missing[unit] + math.max(0, booked[unit] - was[unit] - booked_then[unit]) end
  if existing and (existing.state == 's' or existing.state == 'c') then unattributed(existing, -1) end
  if incoming.state == 's' or incoming.state == 'c' then unattributed(incoming, 1) end
end

local function put_hold_back(incoming)
  if oldest and incoming.t0 + oldest <= now then return end
  if is_unseen(incoming, based, open_then) then end_unseen(incoming) end
  local existing = read_record(incoming.hold)
  if not existing and redis.call('HEXISTS', RES, incoming.hold) == 1 then return end -- of a later version
  if existing and not further(incoming, existing) then return end
  book(incoming, existing)
  if existing and not is_open(existing) and not flagged(incoming, 'l') then incoming.flags = incoming.flags .. 'l' end
  if is_open(incoming) then
    redis.call('ZADD', EXP, text(now + lease), incoming.hold)
  else
    redis.call('ZREM', EXP, incoming.hold)
    redis.call('ZADD', GC, text(now + keep), 'r;' .. incoming.hold)
  end
  if existing then incoming.counters = existing.counters end
  highest = math.max(highest, incoming.number)
  write_records({ incoming }, true)
  count = count + 1
end

local function put_adjustment_back(each)
  highest = math.max(highest, each.number)
  if each.kind == 'limit' then
    set_limit(each.field, each.value, each.number)
  elseif not redis.call('HGET', RES, each.id) then
    local direction, amount = string.match(each.value, '^(%a+);(%d+)$')
    if each.number > based then
      local sum = tonumber(redis.call('HGET', WIN, each.field .. ':c') or '0') + (direction == 'add' and 1 or -1) * amount
      redis.call('HSET', WIN, each.field .. ':c', text(math.max(0, sum)))
    end
    redis.call('HSET', RES, each.id, table.concat({ 'credit', each.field, each.value, text(each.number) }, ';'))
    redis.call('ZADD', GC, text(now + keep), 'r;' .. each.id)
  end
end

if checkpoint then
  local known = tonumber(redis.call('HGET', WIN, CHECKPOINTED .. checkpoint.journal) or '0')
  -- An existing ledger has purged the marks of old journals, and is later than they are.
  local old = epoch_now() and checkpoint.number / 1000 + checkpoint.keep < now
  if known < checkpoint.number and not old then
    if checkpoint.number > based then rebase() end
    redis.call('HSET', WIN, CHECKPOINTED .. checkpoint.journal, text(checkpoint.number))
    redis.call('ZADD', GC, text(now + checkpoint.keep), 'k;' .. checkpoint.journal)
    highest = math.max(highest, checkpoint.number)
  end
end
for _, each in ipairs(adjustments) do put_adjustment_back(each) end
for _, record in ipairs(records) do put_hold_back(record) end
apply(changes)
if highest > 0 then redis.call('HSET', WIN, NUMBER, text(highest)) end
local name, open = epoch_now()
if epoch and (not name or (tonumber(open) > now and (count > 0 or rebased))) then
  -- While one replica still finds something missing, the ledger stays closed so that the others can restore their part.
  redis.call('HSET', WIN, EPOCH, (name or epoch) .. ';' .. text(now + closed))
  name, open = epoch_now()
end
local reply = { name or '', text(math.max(0, tonumber(open or '0') - now)), text(count) }
for unit = 1, UNITS do reply[#reply + 1] = text(missing[unit]) end
for _, value in ipairs(put_back) do reply[#reply + 1] = value end
return reply
