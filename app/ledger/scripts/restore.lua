#!lua flags=allow-oom
-- Puts back what the store has forgotten: counters from a checkpoint that is later than these books, then holds, each at
-- most once; and opens the books again (docs/decisions/0051).
--
-- KEYS  res win exp gc log use (see _common.lua)
-- ARGV  1, 2 keep (take_keep)   3 lease of those that are open, ms
--       4 oldest that is put back, ms of age, or "" for any   5 charge|release
--       6 name of a new epoch, or "" to leave epochs alone   7 ms until the first admission in it
--       then a checkpoint (take_checkpoint), or ""
--       then changes by operators: how many, then for each: credit|limit, number, id, field, value
--       then how many holds, and for each: hold id, record
-- Returns {name of the epoch or "", ms until the first admission, how many holds were missing, what they had booked: an
--         amount for each unit, then for each counter that was put back: its name, by how much}
--
-- A hold that is there already is left as it is, unless it is told how it ended and the books do not know yet: one
-- replica remembers that a call was sent, and another that it was settled. An epoch that is there already stays. So
-- any number of replicas may put back what they know, in any order and again and again.

-- A checkpoint as checkpoint.lua gave it, nil for "": number, journal, keep of the journal's mark, counters, credit,
-- limits and open holds, each as how many and then these.
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
  local found = {}
  for index = 1, take_integer('number of adjustments') do
    local kind = take_choice('adjustment', { credit = true, limit = true })
    found[index] =
      { kind = kind, number = take_integer('number'), id = take('id'), field = take_word('field'), value = take('value') }
  end
  return found
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

-- A hold that was open before a checkpoint in which it is open no more had ended by then: as far as anybody knows, as one
-- that nobody came back to.
local function end_unseen(record)
  record.state = record.state == 'd' and unknown == 'charge' and 'c' or 'x'
end

local function is_unseen(record, number, opens)
  return is_open(record) and record.number > 0 and record.number <= number and not opens[record.hold]
end

local function stands_at(name, kind)
  return tonumber(redis.call('HGET', WIN, name .. ':' .. kind) or '0')
end

-- What the holds of these books add up to by counter, and the part of it that came after the checkpoint.
local function sum_holds(number, opens)
  local all, since = { s = {}, u = {} }, { s = {}, u = {} }
  local entries = redis.call('HGETALL', RES)
  for index = 1, #entries, 2 do
    local record = parse_record(entries[index], entries[index + 1])
    if record and is_unseen(record, number, opens) then
      for _, counter in ipairs(record.counters) do increase(counter.name .. ':h', -record.est[counter.unit]) end
      end_unseen(record)
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

-- Credit that was added to a field after the checkpoint, and taken.
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

-- Lets the ledger stand on the checkpoint: what it says, and what its own holds have added since.
local function rebase()
  local number, opens = checkpoint.number, {}
  for _, hold in ipairs(checkpoint.open) do opens[hold] = true end
  local all, since = sum_holds(number, opens)
  for _, counter in ipairs(checkpoint.counters) do
    if counter.till > now then
      for kind, forgotten in pairs({ s = 'p', u = 'q' }) do
        local stands = stands_at(counter.name, kind)
        local sum = math.max(0, counter[kind] + (since[kind][counter.name] or 0))
        if sum > stands and kind == 's' then
          put_back[#put_back + 1], put_back[#put_back + 2] = counter.name, text(sum - stands)
        end
        increase(counter.name .. ':' .. kind, sum - stands)
        local rest = sum - (all[kind][counter.name] or 0)
        increase(counter.name .. ':' .. forgotten, rest - stands_at(counter.name, forgotten))
      end
      increase(counter.name .. ':o', math.max(0, counter.o - stands_at(counter.name, 'o')))
      redis.call('ZADD', GC, 'NX', text(counter.till), 'w;' .. counter.name)
    end
  end
  local credit = credit_since(number)
  for _, each in ipairs(checkpoint.credit) do
    redis.call('HSET', WIN, each.field .. ':c', text(math.max(0, each.amount + (credit[each.field] or 0))))
  end
  for _, each in ipairs(checkpoint.limits) do set_limit(each.field, each.term, each.number) end
  redis.call('HSET', WIN, BASED, text(number), OPEN_THEN, table.concat(checkpoint.open, ','))
  based, open_then, rebased = number, opens, true
end

-- Whether a hold as it is told has come further than as it stands.
local function further(told, stands)
  if stands.state == 's' or stands.state == 'v' or is_open(told) or told.state == 'x' then return false end
  return told.state ~= 'c' or is_open(stands)
end

local function unattributed(record, sign)
  count_usage(day_of(record.t0), { { UNATTRIBUTED, used(booked_at(record), sign) } }, 0)
end

-- Books a hold as it is told in place of how it stands, if it does: all of it that the checkpoint does not know.
local function book(told, stands)
  local booked, rest, was, was_rest = booked_at(told), unresolved_of(told), NOTHING, NOTHING
  local booked_then, rest_then = stood_at(told, based)
  local was_then, was_rest_then = NOTHING, NOTHING
  if stands then
    was, was_rest = booked_at(stands), unresolved_of(stands)
    was_then, was_rest_then = stood_at(stands, based)
  end
  for _, counter in ipairs((stands or told).counters) do
    local name, unit = counter.name, counter.unit
    if stands and is_open(stands) then add(changes, name .. ':h', -stands.est[unit]) end
    if unit > 0 and tonumber(counter.stop) + keep > now then
      if is_open(told) then add(changes, name .. ':h', told.est[unit]) end
      local known, known_rest = booked_then[unit] - was_then[unit], rest_then[unit] - was_rest_then[unit]
      add(changes, name .. ':s', booked[unit] - was[unit] - known)
      add(changes, name .. ':p', -known)
      add(changes, name .. ':u', rest[unit] - was_rest[unit] - known_rest)
      add(changes, name .. ':q', -known_rest)
      -- Of what was corrected late nobody knows what it had been booked at: all of it may have been overage.
      local reserved = told.est[unit]
      if flagged(told, 'l') and not (stands and is_open(stands)) then reserved = was[unit] end
      if booked_then[unit] == 0 then add(changes, name .. ':o', math.max(0, booked[unit] - reserved)) end
      redis.call('ZADD', GC, 'NX', text(tonumber(counter.stop) + keep), 'w;' .. name)
    end
  end
  for unit = 1, UNITS do missing[unit] = missing[unit] + math.max(0, booked[unit] - was[unit] - booked_then[unit]) end
  if stands and (stands.state == 's' or stands.state == 'c') then unattributed(stands, -1) end
  if told.state == 's' or told.state == 'c' then unattributed(told, 1) end
end

local function put_hold_back(told)
  if oldest and told.t0 + oldest <= now then return end
  if is_unseen(told, based, open_then) then end_unseen(told) end
  local stands = read_record(told.hold)
  if stands and not further(told, stands) then return end
  book(told, stands)
  if stands and not is_open(stands) and not flagged(told, 'l') then told.flags = told.flags .. 'l' end
  if is_open(told) then
    redis.call('ZADD', EXP, text(now + lease), told.hold)
  else
    redis.call('ZREM', EXP, told.hold)
    redis.call('ZADD', GC, text(now + keep), 'r;' .. told.hold)
  end
  if stands then told.counters = stands.counters end
  highest = math.max(highest, told.number)
  write_records({ told }, true)
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
  -- Books that are there have forgotten the marks of old journals, and are later than these.
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
  -- As long as somebody still finds something missing the ledger stays closed for the others.
  redis.call('HSET', WIN, EPOCH, (name or epoch) .. ';' .. text(now + closed))
  name, open = epoch_now()
end
local reply = { name or '', text(math.max(0, tonumber(open or '0') - now)), text(count) }
for unit = 1, UNITS do reply[#reply + 1] = text(missing[unit]) end
for _, value in ipairs(put_back) do reply[#reply + 1] = value end
return reply
