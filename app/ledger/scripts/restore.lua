#!lua flags=allow-oom
-- Puts holds back that the store has forgotten, each at most once, and opens the ledger again.
--
-- KEYS  res win exp gc log use (see _common.lua)
-- ARGV  1, 2 keep (take_keep)   3 lease of those that are open, ms
--       4 oldest that is put back, ms of age, or "" for any
--       5 name of a new epoch, or "" to leave epochs alone   6 ms until the first admission in it
--       7 number of holds, then for each: hold id, record
-- Returns {name of the epoch or "", ms until the first admission, number put back}
--
-- A hold that is there already is left as it is, unless it is told how it ended and the ledger does not know yet:
-- one replica remembers that a call was sent, and another that it was settled. An epoch that is there already
-- stays. So any number of replicas may put back what they know, in any order and again and again.

local keep = take_keep()
local lease = take_integer('lease')
local oldest = take_optional(take_integer, 'oldest')
local epoch = take_optional(take_word, 'epoch')
local closed = take_integer('time closed')
local records = {}
for index = 1, take_integer('number of holds') do
  local hold = take_word('hold')
  local raw = take('record')
  if not string.match(raw, '^%a;%a*;%d+;[^;]*;[%d,]+;[%d,]*;[^;]*;?2?$') then refuse('record', raw) end
  local record = parse_record(hold, raw)
  if #record.est ~= UNITS or (record.state == 's' and #record.act ~= UNITS) then refuse('amounts', raw) end
  records[index] = record
end
take_nothing_more()
if lease == 0 then refuse('lease', lease) end

local now = server_now()
local changes, count = {}, 0

-- Whether a hold as it is told has come further than as it stands.
local function further(told, stands)
  if stands.state == 's' or stands.state == 'v' or is_open(told) or told.state == 'x' then return false end
  return told.state ~= 'c' or is_open(stands)
end

local function unattributed(record, sign)
  count_usage(day_of(record.t0), { { UNATTRIBUTED, used(booked_at(record), sign) } }, 0)
end

for _, record in ipairs(records) do
  local young = not oldest or record.t0 + oldest > now
  local stands = young and read_record(record.hold)
  if stands and further(record, stands) then
    if stands.state == 'c' then unattributed(stands, -1) end
    resolve(stands, record.state, record.act, now, keep)
    if stands.state ~= 'v' then unattributed(stands, 1) end
    write_records({ stands })
    count = count + 1
  elseif young and not stands then
    local booked = ({ s = record.act, c = record.est })[record.state]
    for _, counter in ipairs(record.counters) do
      if counter.unit > 0 and tonumber(counter.stop) + keep > now then
        if is_open(record) then add(changes, counter.name .. ':h', record.est[counter.unit]) end
        if booked then
          -- Of what was corrected late nobody knows what it had been booked at: all of it may have been overage.
          local reserved = flagged(record, 'l') and 0 or record.est[counter.unit]
          add(changes, counter.name .. ':s', booked[counter.unit])
          add(changes, counter.name .. ':o', math.max(0, booked[counter.unit] - reserved))
        end
        redis.call('ZADD', GC, 'NX', text(tonumber(counter.stop) + keep), 'w;' .. counter.name)
      end
    end
    if booked then unattributed(record, 1) end
    if is_open(record) then
      redis.call('ZADD', EXP, text(now + lease), record.hold)
    else
      redis.call('ZADD', GC, text(now + keep), 'r;' .. record.hold)
    end
    write_records({ record })
    count = count + 1
  end
end
apply(changes)
local function epoch_now()
  return string.match(redis.call('HGET', WIN, EPOCH) or '', '^([^;]+);(%d+)$')
end
local name, open = epoch_now()
if epoch and (not name or (tonumber(open) > now and count > 0)) then
  -- As long as somebody still finds something missing the ledger stays closed for the others.
  redis.call('HSET', WIN, EPOCH, (name or epoch) .. ';' .. text(now + closed))
  name, open = epoch_now()
end
return { name or '', text(math.max(0, tonumber(open or '0') - now)), text(count) }
