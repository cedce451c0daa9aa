-- Shared by every ledger script: prepended to each of them at load time by app/ledger/scripting.py.
--
-- KEYS (the same order in every script; all share the tenant's hash tag, so all lie in one slot)
--   1 res   HASH    hold id -> record                                          never a TTL
--   2 win   HASH    "<field>|<start_ms>:s|:h|:u|:o|:p|:q" -> settled, held, unresolved (set aside for unknown
--                   outcomes), overage; the settled and unresolved parts of holds that have been purged  never a TTL
--                   "<field>:c|:l" -> credit, "<limit>;<until_ms>" that an operator set temporarily
--   3 exp   ZSET    hold id -> end of its lease (ms); exactly the open holds   never a TTL
--   4 gc    ZSET    "r;<hold id>" | "w;<field>|<start_ms>" | "u;<row>" | "l;<fingerprint>" | "p;<fingerprint>" | "t;<rate>"
--                   -> purge time (ms)                                         never a TTL
--   5 log   STREAM  of earlier versions; it is deleted
--   6 use   HASH    what was used by day, for reports; see "Usage" below       never a TTL
--   7 lead  HASH    fingerprint -> "<leader's hold id>;<until_ms>;" | "!<hold id>;<until_ms>;<failure as JSON, cut
--                   short>"                                                    never a TTL
--   8, 9 idem, ends (see _claims.lua), 10, 11 ops, opends (see operation.lua), 12, 13 calls, callends (see
--                   _attempts.lua)                                             never a TTL
--  14 users ZSET    end user -> until when it is active: it has a current window or rate    never a TTL
--  15 gen   STRING  "<hold id>;<created_ms>;<what it cost>;<result as JSON>"   always a TTL
--  16 fail  STRING  "<hold id>;<the whole failure as JSON>"                    always a TTL
-- Scripts that do not concern one piece of work get only the first fourteen.
--
-- Records are described in _records.lua.
--
--   WIN "!number"  the last number
--
-- Redis does not roll a script back, so everything is checked before the first write. Counters are written
-- with HINCRBY, which is exact up to 2^63; arithmetic here is on doubles, exact up to 2^53. cjson is not used:
-- it would print large integers with 14 digits.

local RES, WIN, EXP, GC, LOG, USE, LEAD = unpack(KEYS, 1, 7)
local OPS, OPENDS = KEYS[10], KEYS[11]
local USERS, GEN, FAIL = KEYS[14], KEYS[15], KEYS[16]
local AMOUNT_MAX = 9007199254740991
local COUNTER_MAX = 4611686018427387904 -- 2^62: no sum of two counters overflows HINCRBY
local NUMBER = '!number'
local ASIDE = '!aside'
local CHECKPOINTED = '!checkpoint|' -- see checkpoint.lua
local LATER_VERSION_MS = 60000
local ASIDE_KEPT_MS = 30 * 86400000
-- The field of WIN with the time when all of the tenant's results were purged, in ms; with "|<fingerprint>", those of
-- one piece of work.
local PURGED = '!purged'

-- Arguments ------------------------------------------------------------------------------------------

local cursor = 0

local function refuse(what, value)
  error('INVALID argument ' .. cursor .. ', ' .. what .. ': ' .. string.sub(tostring(value), 1, 40))
end

local function take(what)
  cursor = cursor + 1
  local value = ARGV[cursor]
  if value == nil then refuse(what, 'missing') end
  return value
end

-- A whole number from 0 to 2^53-1, in decimal digits only.
local function take_integer(what)
  local value = take(what)
  if #value > 16 or not string.match(value, '^%d+$') then refuse(what, value) end
  local number = tonumber(value)
  if number > AMOUNT_MAX then refuse(what, value) end
  return number
end

local function take_word(what)
  local value = take(what)
  if #value > 200 or not string.match(value, '^[%w_.:|-]+$') then refuse(what, value) end
  return value
end

local function take_choice(what, choices)
  local value = take(what)
  if not choices[value] then refuse(what, value) end
  return value
end

-- nil for the empty string.
local function take_optional(taker, what)
  if ARGV[cursor + 1] == '' then
    cursor = cursor + 1
    return nil
  end
  return taker(what)
end

local function take_amounts(what)
  local amounts = {}
  for unit = 1, UNITS do amounts[unit] = take_integer(what) end
  return amounts
end

-- How long ended holds and past windows are kept, ms; and, for count_usage, rows of usage.
local usage_keep, holds_keep = 0, 0
local function take_keep()
  local keep = take_integer('keep')
  holds_keep = keep
  usage_keep = take_integer('keep of usage')
  return keep
end

local function take_nothing_more()
  if ARGV[cursor + 1] ~= nil then refuse('end', 'more arguments than expected') end
end

-- End users ------------------------------------------------------------------------------------------
--
-- The counters of an end user have fields that begin with "u:<user>|" (docs/decisions/0054).

local USER_KEEP_MS = 600000

-- The end user of a field or a counter, or nil.
local function user_of(field)
  return string.match(field, '^u:([^|]+)|')
end

-- How long a counter is kept after the end of its window: a tenant may have many end users, so theirs are kept no longer
-- than calls take.
local function keep_of(field, keep)
  return user_of(field) and math.min(keep, USER_KEEP_MS) or keep
end

-- Notes that a user is active until a time.
local function note_user(user, till, now)
  redis.call('ZREMRANGEBYSCORE', USERS, '-inf', text(now))
  if till > now then redis.call('ZADD', USERS, 'GT', text(till), user) end
end

-- Records --------------------------------------------------------------------------------------------

-- Moves an unreadable entry aside and keeps it for operators (docs/reliability.md R84) in WIN "!aside|<kind>|<name>";
-- WIN "!aside" lists those that no gateway has reported yet, one per line.
local function set_aside(kind, name, raw)
  local entry = kind .. '|' .. name
  local unreported = redis.call('HGET', WIN, ASIDE) or ''
  redis.call('HSET', WIN, ASIDE .. '|' .. entry, string.sub(raw, 1, 1000),
    ASIDE, string.sub(unreported .. entry .. '\n', 1, 4000))
  redis.call('ZADD', GC, text(server_now() + ASIDE_KEPT_MS), 'a;' .. entry)
end

-- The record of a raw entry; nil if it is of a later version, which is reported once a month for each tenant and left
-- alone, or malformed, in which case it is set aside.
local function open_record(hold, raw)
  local record = parse_record(hold, raw)
  local version = tonumber(string.match(raw, '^(%d+);') or '0')
  if not record and version > tonumber(RECORD_VERSION) then
    if redis.call('HEXISTS', WIN, ASIDE .. '|later|hold') == 0 then set_aside('later', 'hold', raw) end
  elseif not record then
    set_aside('hold', hold, raw)
    redis.call('HDEL', RES, hold)
    redis.call('ZREM', EXP, hold)
  end
  return record
end

local function read_record(hold)
  local raw = redis.call('HGET', RES, hold)
  return raw and open_record(hold, raw) or nil
end

local function flagged(record, flag)
  return string.find(record.flags, flag, 1, true) ~= nil
end

local function is_open(record)
  return record.state == 'h' or record.state == 'd'
end

-- The next transition's number.
local function take_number()
  local time = redis.call('TIME')
  local number = math.max((tonumber(redis.call('HGET', WIN, NUMBER) or '0') or 0) + 1, time[1] * 1000000 + time[2])
  redis.call('HSET', WIN, NUMBER, text(number))
  return number
end

-- Writes records. They were changed by one transition and get its number, unless `keep_numbers` is set.
local function write_records(records, keep_numbers)
  if #records == 0 then return end
  local number, pairs_of = not keep_numbers and take_number(), {}
  for _, record in ipairs(records) do
    record.number = number or record.number
    pairs_of[#pairs_of + 1] = record.hold
    pairs_of[#pairs_of + 1] = format_record(record)
  end
  redis.call('HSET', RES, unpack(pairs_of))
end

-- Purges ---------------------------------------------------------------------------------------------

local function purge_mark(fingerprint)
  return PURGED .. '|' .. fingerprint
end

-- The time up to which this work was purged, in ms, or -1: results that were begun by then are neither served nor kept.
-- Earlier versions marked a purged piece of work in place of its result.
local function purged_until(fingerprint, result)
  local marks = redis.call('HMGET', WIN, PURGED, purge_mark(fingerprint))
  marks[3] = result and string.match(result, '^!;(%d+);')
  local latest = -1
  for index = 1, 3 do latest = math.max(latest, tonumber(marks[index] or '-1')) end
  return latest
end

-- Counters -------------------------------------------------------------------------------------------

-- By how much the first amounts exceed the second.
local function differ(amounts, others)
  local rest = {}
  for unit = 1, UNITS do rest[unit] = math.max(0, amounts[unit] - others[unit]) end
  return rest
end

-- Sets aside an entry of WIN that should be a whole number; settled, held and unresolved amounts are recomputed.
local function mend(entry, raw)
  set_aside('counter', entry, raw)
  local name, kind = string.match(entry, '^(.+):([shu])$')
  local forgotten = ({ s = ':p', u = ':q' })[kind]
  local sum = forgotten and tonumber(redis.call('HGET', WIN, name .. forgotten) or '0') or 0
  local entries = name and redis.call('HGETALL', RES) or {}
  for index = 1, #entries, 2 do
    local record = parse_record(entries[index], entries[index + 1])
    local amounts
    if record and kind == 'h' then
      amounts = is_open(record) and record.est
    elseif record and (record.state == 's' or record.state == 'c') then
      amounts = #record.act > 0 and record.act or record.est
      if kind == 'u' then
        local aside = record.state == 'c' or flagged(record, 'u')
        amounts = aside and differ(record.est, amounts)
      end
    end
    for _, counter in ipairs(amounts and record.counters or {}) do
      if counter.name == name then sum = sum + (amounts[counter.unit] or 0) end
    end
  end
  redis.call('HSET', WIN, entry, text(sum))
  return text(sum)
end

-- A whole number as read from WIN; "0" if there is none.
local function whole(entry, value)
  if not value then return '0' end
  return string.match(value, '^-?%d+$') and value or mend(entry, value)
end

local function increase(counter, number)
  if number == 0 then return end
  local reply = redis.pcall('HINCRBY', WIN, counter, text(number))
  if type(reply) ~= 'table' then return end
  if string.find(reply.err, 'not an integer') then mend(counter, redis.call('HGET', WIN, counter)) end
  redis.call('HINCRBY', WIN, counter, text(number)) -- or the same error again
end

-- Adds up changes so that a sweep writes each counter once; a sum that a double cannot hold exactly is written early.
local function add(changes, counter, number)
  local before = changes[counter] or 0
  local sum = before + number
  if sum > AMOUNT_MAX or sum < -AMOUNT_MAX then
    increase(counter, before)
    sum = number
  end
  changes[counter] = sum
end

local function apply(changes)
  for counter, number in pairs(changes) do increase(counter, number) end
end

-- Settled, held and unresolved of each counter, as the strings that the store keeps; absent is "0".
local function read_counters(names)
  if #names == 0 then return {} end
  local fields = {}
  for _, name in ipairs(names) do
    for _, kind in ipairs({ ':s', ':h', ':u' }) do fields[#fields + 1] = name .. kind end
  end
  local values = redis.call('HMGET', WIN, unpack(fields))
  local states = {}
  for index = 1, #names do
    local at = 3 * index - 2
    states[index] = {
      settled = whole(fields[at], values[at]), held = whole(fields[at + 1], values[at + 1]),
      unresolved = whole(fields[at + 2], values[at + 2]),
    }
  end
  return states
end

-- Usage ----------------------------------------------------------------------------------------------
--
-- USE  "<day>|<key>|<model>|<size>"  a row of numbers, in the order of Spent in app/domain/report.py; the UTC
--                                    day, counted from 1970, on which the hold was reserved or the hit served
--      "<day>|<key>|<model>|<size>|<tier>"  the part of it that was billed by another service tier than the standard
--                                    one, or estimated by the gateway because Google reported nothing
--      "<day>|=|<label>"             the same by label; "<day>|=|" for all labels above the daily limit
--      "<day>|-"                     the same for unattributed usage: charged at the estimate, or restored
--      "<day>|~|<user>"              the same by end user; "<day>|~|" for all users above the daily limit
--      "<day>|!|<model>|<parameters>"  the same by model and parameters; "<day>|!|" for all above the daily limit
--      "<day>|#", "<day>|~#", "<day>|!#"  number of labels, of users, and of rows by parameters, of the day
--      "@<key>"                      when the key was last served, ms

local DAY_MS = 86400000
local COLUMNS = 16
local REPORTED = 4 -- of UNITS, the first ones
local TEXT_OUTPUT, HITS = 8, 10 -- two of the columns behind them; what the hits saved comes after theirs
local IMAGE_TOKENS, ALL_OUTPUT_TOKENS = 1, 5 -- of UNITS
local UNATTRIBUTED = '-'

local function day_of(now)
  return text(math.floor(now / DAY_MS))
end

-- A row of numbers for one request of these amounts, times 1 or -1. Output that is neither picture nor thought is text,
-- so that all output can be computed from a row without a column for it.
local function used(amounts, sign)
  local row = { sign }
  for unit = 1, REPORTED do row[unit + 1] = sign * amounts[unit] end
  for column = REPORTED + 2, COLUMNS do row[column] = 0 end
  row[TEXT_OUTPUT] = sign * math.max(0, amounts[ALL_OUTPUT_TOKENS] - amounts[IMAGE_TOKENS])
  return row
end

local count_usage -- declared here so that its helpers are local to the block: a script has at most 200 locals
do
  -- The kinds of rows that callers name, so that their number is bounded, and under what it is counted.
  local NUMBER_OF = { ['='] = '#', ['~'] = '~#', ['!'] = '!#' }

  -- What of the stored values is readable; the rest is set aside.
  local function check_rows(names, stored)
    local values = {}
    for index, name in ipairs(names) do
      values[name] = stored[index] or nil
      if values[name] and not string.match(values[name], '^[-%d,]+$') then
        set_aside('usage', name, values[name])
        values[name] = nil
      end
    end
    return values
  end

  local function add_row(written, row)
    local sums = {}
    for number in string.gmatch(written or '', '-?%d+') do sums[#sums + 1] = tonumber(number) end
    for column, number in ipairs(row) do
      local sum = (sums[column] or 0) + number
      sums[column] = text(math.max(-AMOUNT_MAX, math.min(AMOUNT_MAX, sum)))
    end
    return table.concat(sums, ',')
  end

  -- Adds rows {name without the day, numbers, kind if it is bounded} to a day, in two commands whatever the size. `maxima`
  -- has the number of rows of each kind that a day may have; others are added up in one.
  count_usage = function(day, rows, maxima)
    if #rows == 0 then return end
    local names = {}
    for index, row in ipairs(rows) do names[index] = day .. '|' .. row[1] end
    for kind, counter in pairs(NUMBER_OF) do
      names[#names + 1] = day .. '|' .. counter
      names[#names + 1] = day .. '|' .. kind .. '|'
    end
    local values, changed = check_rows(names, redis.call('HMGET', USE, unpack(names))), {}

    local function change(name, value)
      if not values[name] then
        redis.call('ZADD', GC, text((tonumber(day) + 1) * DAY_MS + usage_keep), 'u;' .. name)
      end
      values[name], changed[name] = value, value
    end

    for index, row in ipairs(rows) do
      local name, kind = names[index], row[3]
      if kind and not values[name] then
        local counter = day .. '|' .. NUMBER_OF[kind]
        local number = tonumber(values[counter] or '0') or 0
        if number >= maxima[kind] then
          name = day .. '|' .. kind .. '|'
        else
          change(counter, text(number + 1))
        end
      end
      change(name, add_row(values[name], row[2]))
    end
    local pairs_of = {}
    for name, value in pairs(changed) do
      pairs_of[#pairs_of + 1] = name
      pairs_of[#pairs_of + 1] = value
    end
    redis.call('HSET', USE, unpack(pairs_of))
  end
end

-- Resolution -----------------------------------------------------------------------------------------

local NOTHING = {}
for unit = 1, UNITS do NOTHING[unit] = 0 end

-- What a hold is expected to use while its outcome is unknown.
local function expected_of(record)
  return #record.act > 0 and record.act or record.est
end

-- The amounts booked for a hold.
local function booked_at(record)
  if record.state == 's' then return record.act end
  return record.state == 'c' and expected_of(record) or NOTHING
end

-- What is set aside for a hold of unknown outcome beside its booked amounts.
local function unresolved_of(record)
  if record.state ~= 'c' and not (record.state == 's' and flagged(record, 'u')) then return NOTHING end
  local booked, rest = booked_at(record), {}
  for unit = 1, UNITS do rest[unit] = math.max(0, record.est[unit] - booked[unit]) end
  return rest
end

-- Ends a hold, or corrects its end: s with the used amounts, v with nothing, c with the expected ones. If a part of a
-- settled hold has an unknown outcome, `rest` is kept unresolved beside it.
local function resolve(record, state, act, rest, now, keep)
  local open, booked, aside = is_open(record), booked_at(record), unresolved_of(record)
  local covered = (open or record.state == 'c') and record.est or booked
  local late = not open and not flagged(record, 'l')
  if not open then
    record.first = record.first or { number = record.number, booked = booked, unresolved = aside }
  end
  record.state, record.flags = state, string.gsub(record.flags, 'u', '')
  local held = record.est
  if state == 's' then
    record.act = act
    if csv(rest) ~= csv(NOTHING) then
      record.flags, record.est = record.flags .. 'u', { [0] = 1 }
      for unit = 1, UNITS do record.est[unit] = act[unit] + rest[unit] end
    end
  end
  local after, kept, purges = booked_at(record), unresolved_of(record), {}
  for _, counter in ipairs(record.counters) do
    local unit, forgotten = counter.unit, false
    if not open and user_of(counter.field) then forgotten = not redis.call('ZSCORE', GC, 'w;' .. counter.name) end
    if open then increase(counter.name .. ':h', -held[unit]) end
    if unit > 0 and not forgotten then
      increase(counter.name .. ':s', after[unit] - booked[unit])
      increase(counter.name .. ':u', kept[unit] - aside[unit])
      increase(counter.name .. ':o', math.max(0, after[unit] - covered[unit]))
    end
    if not forgotten then
      purges[#purges + 1] = text(now + keep_of(counter.field, keep))
      purges[#purges + 1] = 'w;' .. counter.name
    end
  end
  if #purges > 0 then redis.call('ZADD', GC, 'NX', unpack(purges)) end
  if late then record.flags = record.flags .. 'l' end
  redis.call('ZREM', EXP, record.hold)
  redis.call('ZADD', GC, text(now + keep), 'r;' .. record.hold)
end

-- Ends open holds whose leases have ended: an unsent one is released; a sent one is charged what was expected and the
-- rest is kept unresolved, unless the policy is to release it.
local function expire(records, now, keep, unknown_outcome)
  if #records == 0 then return end
  local changes, names, purges, days = {}, {}, {}, {}
  for index, record in ipairs(records) do
    local charged = record.state == 'd' and unknown_outcome == 'charge'
    record.state = charged and 'c' or 'x'
    local booked, rest = booked_at(record), unresolved_of(record)
    for _, counter in ipairs(record.counters) do
      add(changes, counter.name .. ':h', -record.est[counter.unit])
      if charged and counter.unit > 0 then
        add(changes, counter.name .. ':s', booked[counter.unit])
        add(changes, counter.name .. ':u', rest[counter.unit])
      end
    end
    if charged then
      local day = day_of(record.t0)
      days[day] = days[day] or {}
      table.insert(days[day], { UNATTRIBUTED, used(booked, 1) })
    end
    names[index] = record.hold
    purges[2 * index - 1] = text(now + keep)
    purges[2 * index] = 'r;' .. record.hold
  end
  apply(changes)
  redis.call('ZREM', EXP, unpack(names))
  redis.call('ZADD', GC, unpack(purges))
  for day, rows in pairs(days) do count_usage(day, rows) end
  write_records(records)
end

-- Expires this hold if its lease has ended, so that every reply depends on the store's clock and not on when the last
-- sweep ran.
local function expire_if_due(record, now, keep, unknown_outcome)
  if not is_open(record) then return end
  local deadline = redis.call('ZSCORE', EXP, record.hold)
  if deadline and tonumber(deadline) > now then return end
  expire({ record }, now, keep, unknown_outcome)
end

-- Expires at most `limit` holds; returns how many were due.
local function sweep(now, keep, unknown_outcome, limit)
  local due = redis.call('ZRANGE', EXP, '-inf', text(now), 'BYSCORE', 'LIMIT', 0, limit)
  if #due == 0 then return 0 end
  local records = {}
  for index, raw in ipairs(redis.call('HMGET', RES, unpack(due))) do
    local record = raw and open_record(due[index], raw)
    if record and is_open(record) then
      records[#records + 1] = record
    elseif raw and not record and redis.call('HEXISTS', RES, due[index]) == 1 then
      redis.call('ZADD', EXP, text(now + LATER_VERSION_MS), due[index]) -- for a gateway that can read it
    else
      redis.call('ZREM', EXP, due[index])
    end
  end
  expire(records, now, keep, unknown_outcome)
  return #due
end

-- Adds up what purged holds have booked in a window and what is unresolved of them, so that the window's totals can
-- always be explained.
local function carry(hold)
  local raw = redis.call('HGET', RES, hold)
  if not raw or not string.match(raw, '^%d*;?[sc];') then return end
  local record = open_record(hold, raw)
  if not record then return end
  local booked, rest = booked_at(record), unresolved_of(record)
  for _, counter in ipairs(record.counters) do
    local name, unit = counter.name, counter.unit
    if unit > 0 and booked[unit] > 0 and redis.call('HEXISTS', WIN, name .. ':s') == 1 then
      increase(name .. ':p', booked[unit])
    end
    if unit > 0 and rest[unit] > 0 and redis.call('HEXISTS', WIN, name .. ':u') == 1 then
      increase(name .. ':q', rest[unit])
    end
  end
end

-- Deletes at most `limit` resolved holds, past windows, rows of usage, leads and purge marks that are no longer kept. A
-- window with open holds is kept for another term.
local function purge(now, keep, limit)
  local due = redis.call('ZRANGE', GC, '-inf', text(now), 'BYSCORE', 'LIMIT', 0, limit)
  for _, member in ipairs(due) do
    local kind, name = string.sub(member, 1, 1), string.sub(member, 3)
    if kind == 'w' and (redis.call('HGET', WIN, name .. ':h') or '0') ~= '0' then
      redis.call('ZADD', GC, text(now + keep_of(name, keep)), member)
    else
      if kind == 'w' then
        for kind in string.gmatch('shuopq', '.') do redis.call('HDEL', WIN, name .. ':' .. kind) end
      elseif kind == 'u' then
        redis.call('HDEL', USE, name)
      elseif kind == 'l' then
        redis.call('HDEL', LEAD, name)
      elseif kind == 'p' then
        redis.call('HDEL', WIN, purge_mark(name))
      elseif kind == 't' then
        redis.call('HDEL', WIN, name)
      elseif kind == 'a' then
        redis.call('HDEL', WIN, ASIDE .. '|' .. name)
      elseif kind == 'k' then
        redis.call('HDEL', WIN, CHECKPOINTED .. name)
      else
        carry(name)
        redis.call('HDEL', RES, name)
      end
      redis.call('ZREM', GC, member)
    end
  end
end

-- Results --------------------------------------------------------------------------------------------

-- The cached result of this work, or nil if there is none or it is unreadable.
local function read_result(fingerprint)
  local raw = redis.call('GET', GEN)
  if not raw then return nil end
  if string.match(raw, '^[^;]+;%d+;[%d,]*;') or string.match(raw, '^!;%d+;') then return raw end
  set_aside('result', fingerprint, raw)
  redis.call('DEL', GEN)
  return nil
end
