#!lua flags=allow-oom
-- Takes a checkpoint of a tenant's ledger: the value of every counter, under a number that is above those of all transitions
-- so far and below those of all later ones.
--
-- KEYS  res win exp gc (see _common.lua)
-- ARGV  journal that it is for, keep: how long the ledger keeps the journal's mark, ms
-- Returns {epoch, number, now_ms, counters, credit, limits, open holds}, or {""} if there is no ledger, or it is being
--         rebuilt
--         counters: name, settled, unresolved, overage, time until which the counter is kept (ms); credit: field, amount;
--         limits: field, "<limit>;<until_ms>" or "", number of the change

local journal = take_word('journal')
local keep = take_integer('keep')
take_nothing_more()

local now = server_now()
local epoch, opens = string.match(redis.call('HGET', WIN, EPOCH) or '', '^([^;]+);(%d+)$')
if not epoch or tonumber(opens) > now then return { '' } end
local number = take_number()
redis.call('HSET', WIN, CHECKPOINTED .. journal, text(number))
redis.call('ZADD', GC, text(now + keep), 'k;' .. journal)

local entries, values, names, listed = redis.call('HGETALL', WIN), {}, {}, {}
local counters, credit, limits = {}, {}, {}
for index = 1, #entries, 2 do
  local entry, value = entries[index], entries[index + 1]
  values[entry] = value
  local name, kind = string.sub(entry, 1, -3), string.match(entry, ':([sucn])$')
  if (kind == 's' or kind == 'u') and string.find(name, '|%d+$') then
    if not listed[name] then names[#names + 1] = name end
    listed[name] = true
  elseif kind == 'c' then
    credit[#credit + 1], credit[#credit + 2] = name, value
  elseif kind == 'n' then
    limits[#limits + 1], limits[#limits + 2], limits[#limits + 3] = name, redis.call('HGET', WIN, name .. ':l') or '', value
  end
end
-- A tenant may have tens of thousands of counters, those of its end users, and nothing else runs meanwhile.
local AT_ONCE = 1000
for first = 1, #names, AT_ONCE do
  local windows = {}
  for index = first, math.min(first + AT_ONCE - 1, #names) do windows[#windows + 1] = 'w;' .. names[index] end
  for offset, till in ipairs(redis.call('ZMSCORE', GC, unpack(windows))) do
    local name, size = names[first + offset - 1], #counters
    counters[size + 1], counters[size + 2] = name, values[name .. ':s'] or '0'
    counters[size + 3], counters[size + 4] = values[name .. ':u'] or '0', values[name .. ':o'] or '0'
    counters[size + 5] = till and text(tonumber(till)) or text(now + keep)
  end
end
return { epoch, text(number), text(now), counters, credit, limits, redis.call('ZRANGE', EXP, 0, -1) }
